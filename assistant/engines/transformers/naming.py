"""What a model is called: the folder it lies in, or its id on the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path

from assistant.errors import EngineError


def local_folder(model: str) -> Path | None:
    """The folder that `model` names; None where there is no such folder.

    Raises EngineError where that can't be found out.
    """
    try:
        folder = Path(model).expanduser()
        return folder if folder.is_dir() else None
    except PermissionError as error:
        raise EngineError(f"{model} can't be read: {error.strerror}.") from error
    except (OSError, RuntimeError, ValueError):
        # Too long for a path, of a user that doesn't exist, or with characters that no path has.
        return None


def model_name(model: str) -> str:
    """What clients know a model by: its hub id, or the name of its folder."""
    folder = local_folder(model)
    return folder.resolve().name if folder else model
