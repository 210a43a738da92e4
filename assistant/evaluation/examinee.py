"""Who is asked: what tells its answers from those of others."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from assistant.choice import EngineKind, engine_kind
from assistant.config import ModelConfig
from assistant.engines.transformers.naming import local_folder

# By what the likeliest answer may become another. What makes it faster, bounds it or is for
# sampling does not.
_MATTERS: dict[EngineKind, set[str]] = {
    "embedded": {"words"},
    "transformers": {"weights", "repetition_penalty"},
    "openai_compatible": {"base_urls", "audio_as", "extra_body"},
    "dashscope": {"base_url", "parameters"},
}


@dataclass(frozen=True, slots=True)
class Examinee:
    """A model, and what its answers depend on besides."""

    model: str
    """Empty: as the engine calls it once it has started."""
    settings: dict[str, Any] = field(default_factory=dict)
    """As in the configuration, without the passwords of addresses; of a folder, its state too."""


def examinee(config: ModelConfig) -> Examinee:
    """Who answers by these settings.

    Raises EngineError, OSError where a model's folder can't be read.
    """
    kind = engine_kind(config)
    settings = getattr(config, kind).model_dump(mode="json", include=_MATTERS[kind])
    for key in ("base_urls", "base_url"):
        match settings.get(key):
            case str() as url:
                settings[key] = _without_password(url)
            case list() as urls:
                settings[key] = sorted(map(_without_password, urls))
    model = config.name or ""
    if kind == "transformers" and model and (folder := local_folder(model)):
        model, settings["state"] = str(folder.resolve()), _state(folder)
    return Examinee(model, {"engine": kind, **settings})


def _without_password(url: str) -> str:
    place = urlsplit(url)
    return place._replace(netloc=place.netloc.rpartition("@")[2]).geturl()


def _state(folder: Path) -> str:
    """Another one for another checkpoint that is written into the folder."""
    files = [(path.name, path.stat()) for path in sorted(folder.iterdir()) if path.is_file()]
    told = repr([(name, stat.st_size, stat.st_mtime_ns) for name, stat in files])
    return hashlib.blake2b(told.encode(), digest_size=8).hexdigest()
