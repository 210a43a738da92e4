"""Where a checkpoint's files are: a folder, the hub's cache, or the hub.

Behind a hub id, an @ may name a revision.

What the cache has is used as it is, with no question to the network.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from assistant.engines.transformers.naming import local_folder
from assistant.errors import EngineError

CONFIG = "config.json"
GENERATION = "generation_config.json"
# Of each, one; an interrupted download may have left any of them out.
_NEEDED = [{CONFIG}, {"preprocessor_config.json", "processor_config.json"}]
# Mistral's, which is all in one, takes the place of these.
_TEKKEN = "tekken.json"
_TOKENIZER = [{"tokenizer_config.json"}, {"tokenizer.json", "vocab.json"}]
# The library takes it for granted that these hold objects.
_OBJECTS = (CONFIG, GENERATION, "tokenizer_config.json", "tokenizer.json")
# No `*.bin`, which may hold code, and no code.
_FILES = ["*.json", "*.jinja", "*.txt", "*.model", "*.safetensors"]
# The same weights once more, as their authors' own code takes them; what serves pictures alone.
_NOT = ["consolidated*", "vision-lora/*"]


def find_config(model: str) -> Path:
    """The folder with the `config.json` of a model (hub id or folder), at least.

    Raises EngineError that says what to do.
    """
    return _find(model, [CONFIG], [{CONFIG}], whole=False)


def find_checkpoint(model: str, *, ends_known: bool = False) -> Path:
    """The folder with all of a model's files; downloads what is missing, with progress.

    A connection that breaks is taken up again where it was; after an interruption of the program,
    the files that were whole are kept. With `ends_known`, it may do without the generation config,
    which else tells what ends a reply. Raises EngineError that says what to do.
    """
    needed = _NEEDED if ends_known else [*_NEEDED, {GENERATION}]
    return _find(model, _FILES, needed, whole=True)


def _find(model: str, patterns: list[str], needed: list[set[str]], *, whole: bool) -> Path:
    folder = _folder(model, patterns, needed, whole=whole)
    for name in _OBJECTS:
        _check_object(folder / name)
    return folder


def _folder(model: str, patterns: list[str], needed: list[set[str]], *, whole: bool) -> Path:
    if folder := local_folder(model):
        if lack := _lack(folder, needed, whole=whole):
            raise EngineError(
                f"{folder} is not a whole checkpoint: it has no {lack}. Fetch one with: "
                f"hf download MODEL --local-dir {folder}"
            )
        return folder
    with suppress(LocalEntryNotFoundError, HFValidationError):
        name, revision = _named(model)
        folder = Path(snapshot_download(name, revision=revision, local_files_only=True))
        if not _lack(folder, needed, whole=whole):
            return folder
    folder = _download(model, patterns)
    # Without a network, an interrupted download is all that is returned.
    if lack := _lack(folder, needed, whole=whole):
        raise EngineError(
            f"{model} has no {lack}: either there are none in the safetensors format, or the hub "
            f"can't be reached. Where there is a network, fetch them with: {_fetching(model)}"
        )
    return folder


def _lack(folder: Path, needed: list[set[str]], *, whole: bool) -> str:
    """The files that a checkpoint's folder should hold and doesn't."""
    if whole and not (folder / _TEKKEN).exists():
        needed = needed + _TOKENIZER
    missing = [
        " or ".join(sorted(names))
        for names in needed
        if not any((folder / name).exists() for name in names)
    ]
    return ", ".join(missing + sorted(_missing_weights(folder) if whole else ()))


def _check_object(file: Path) -> None:
    """Raises EngineError where there is such a file, and it isn't an object in JSON."""
    try:
        content = json.loads(file.read_bytes())
    except FileNotFoundError:
        return
    except (ValueError, OSError) as error:
        raise EngineError(f"{file} can't be read: {error}") from error
    if not isinstance(content, dict):
        raise EngineError(f"{file} is damaged: it holds no object.")


def weights_in(folder: Path) -> list[Path]:
    """The files that a checkpoint's weights are in. Raises EngineError where none can tell."""
    index = folder / "model.safetensors.index.json"
    names = {"model.safetensors"}
    if index.exists():
        try:
            names = set(json.loads(index.read_text())["weight_map"].values())
        except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
            raise EngineError(f"{index} can't be read: {error}") from error
    return [folder / name for name in sorted(names)]


def _missing_weights(folder: Path) -> set[str]:
    return {str(f.relative_to(folder)) for f in weights_in(folder) if not f.exists()}


def _named(model: str) -> tuple[str, str | None]:
    """A hub id, and the revision that may follow an @ behind it."""
    name, _, revision = model.partition("@")
    return name, revision or None


def _fetching(model: str) -> str:
    """The command that fetches a model."""
    name, revision = _named(model)
    return f"hf download {name}" + (f" --revision {revision}" if revision else "")


def _download(model: str, patterns: list[str]) -> Path:
    name, revision = _named(model)
    try:
        folder = snapshot_download(
            name, revision=revision, allow_patterns=patterns, ignore_patterns=_NOT
        )
        return Path(folder)
    except HFValidationError as error:
        raise EngineError(
            f"{model} is neither a folder that exists nor the hub id of a model, such as "
            "Qwen/Qwen2-Audio-7B-Instruct."
        ) from error
    except LocalEntryNotFoundError as error:
        raise EngineError(
            f"{model} is neither a folder nor in the cache, and the hub can't be reached. Where "
            f"there is a network, fetch it with: {_fetching(model)}"
        ) from error
    except GatedRepoError as error:
        raise EngineError(
            f"{model} is given only to those who accept its terms: do so at "
            f"https://huggingface.co/{model}, then: hf auth login"
        ) from error
    except RevisionNotFoundError as error:
        raise EngineError(f"The hub has no revision {revision} of {name}.") from error
    except RepositoryNotFoundError as error:
        raise EngineError(
            f"The hub has no model {model}; if it is private, first: hf auth login"
        ) from error
    except OSError as error:
        raise EngineError(f"{model} can't be downloaded: {error}") from error
