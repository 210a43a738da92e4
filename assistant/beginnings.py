"""How commands begin: their common options, the settings of these, and what is said meanwhile."""

from __future__ import annotations

import logging
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from assistant.config import Config

T = TypeVar("T")

ConfigOption = Annotated[
    Path | None, typer.Option(help="YAML file with settings; see config.yaml.")
]
EngineOption = Annotated[
    str | None,
    typer.Option(
        help="auto, embedded, transformers, openai_compatible or dashscope; auto: servers where "
        "some are configured, else transformers for a named model."
    ),
]
ModelOption = Annotated[
    str | None,
    typer.Option(
        help="Audio-language model: its hub id, such as Qwen/Qwen2-Audio-7B-Instruct, or the "
        "folder of a checkpoint."
    ),
]
ApiKeyOption = Annotated[
    str | None,
    typer.Option(
        envvar="ASSISTANT_API_KEY",
        show_envvar=True,
        help="Key that clients must present; several are separated by commas.",
    ),
]


def begin_log(level: int) -> None:
    """Log to the standard error: ours from `level` on, of others' what warns."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("assistant").setLevel(level)


def load_settings(
    config: Path | None,
    engine: str | None,
    model: str | None,
    **sections: dict[str, Any],
) -> Config:
    """The settings of the file with those of the command line over them. Raises ConfigError."""
    chosen = given(engine=engine, name=model)
    return Config.load(config, {**sections, "model": chosen})


def given(**options: Any) -> dict[str, Any]:
    """Those of the options that were given."""
    return {name: value for name, value in options.items() if value is not None}


async def while_it_loads(settings: Config, work: Coroutine[Any, Any, T]) -> T:
    """`work`, which begins by loading the model; by now a signal ends it in order."""
    say_that_it_loads(settings)
    return await work


def say_that_it_loads(settings: Config) -> None:
    """On the standard error, where there is a model to load."""
    if settings.model.name:
        # Which may take minutes, or download for longer.
        typer.echo(f"Loading {settings.model.name} ...", err=True)
