"""An evaluation from the manifest to the scores, with its progress in the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import get_args

import typer
from pydantic import TypeAdapter, ValidationError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from assistant.engines.engine import Engine
from assistant.errors import ConfigError, EngineError
from assistant.evaluation.examinee import Examinee
from assistant.evaluation.manifest import Item, read_manifest
from assistant.evaluation.results import Result, ResultsFile
from assistant.evaluation.running import evaluate
from assistant.evaluation.scoring import Answer, Task, score
from assistant.tasks import beside
from assistant.view import printable

_TASK: TypeAdapter[Task] = TypeAdapter(Task)
_COLUMNS = TextColumn("evaluating"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()


async def run_evaluation(
    engine: Engine,
    examinee: Examinee,
    manifest: Path,
    results: Path,
    *,
    task: str,
    language: str,
    prompt: str | None,
    at_once: int,
    control_tokens: bool = False,
) -> None:
    """Ask `engine` about every item of `manifest` that `results` doesn't answer, and print scores.

    `examinee` is what tells its answers from those of others. With `control_tokens`, prompts may
    spell those of a base model.

    Raises ConfigError where the manifest is wrong, or the model is no base model for such prompts;
    EngineError where the model can't be asked or items failed; OSError.
    """
    items = await beside(lambda: read_manifest(manifest, prompt, control_tokens=control_tokens))
    wanted = _task(task, items)
    with ResultsFile(results) as file, Progress(*_COLUMNS, console=Console(stderr=True)) as shown:
        bar = shown.add_task("", total=len(items))
        answered, failures = await evaluate(
            engine, examinee, items, file, at_once=at_once, on_done=lambda: shown.advance(bar)
        )
    for failure in failures:
        typer.echo(f"{manifest}, line {failure.item.line}: {printable(failure.reason)}", err=True)
    for line in scores(answered, wanted, language):
        typer.echo(line)
    if failures:
        raise EngineError(
            f"{len(failures)} of {len(items)} items have no answer and are not in the score; the "
            "same command asks for them again."
        )


def scores(results: Sequence[Result], task: Task, language: str) -> Iterator[str]:
    """A line for each part of the set, in the manifest's order of their first items."""
    order = [*dict.fromkeys(result.source for result in results)]
    by_source = sorted(results, key=lambda result: order.index(result.source))
    for source, group in groupby(by_source, key=lambda result: result.source):
        part = [*group]
        answers = [Answer(result.answer, result.references) for result in part]
        name = f"{source}: " if source else ""
        cut = sum(not result.complete for result in part)
        note = f"; {cut} cut off at the length limit" if cut else ""
        yield f"{name}{len(part)} items, {score(task, answers, language)}{note}"


def _task(name: str, items: Sequence[Item]) -> Task:
    try:
        task = _TASK.validate_python(name)
    except ValidationError as error:
        tasks = ", ".join(get_args(Task))
        raise ConfigError(f"--task {name}: there is no such task, but {tasks}.") from error
    several = next((item.line for item in items if len(item.references) > 1), None)
    if task == "asr" and several:
        raise ConfigError(f"Line {several} of the manifest has several references; asr takes one.")
    return task
