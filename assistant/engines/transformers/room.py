"""Whether a checkpoint's weights find room, found out before they are read.

They come through this computer's own memory, also where they go on to a GPU. What the files hold as
it is wanted is mapped there, and the system takes it back where others need it. All else is made
there: numbers of another kind, and what the library puts together of several tensors, such as
experts.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from assistant.errors import EngineError

HOST = torch.device("cpu")
# As files call them.
_KINDS = {torch.bfloat16: "BF16", torch.float32: "F32"}


def check_room(model: str, needed: int, device: torch.device) -> None:
    """Raises EngineError where `device` has less than the weights of `model` take: bytes."""
    if needed > (free := free_bytes(device)):
        raise EngineError(
            f"The weights of {model} take {_size(needed)} of memory, and {device} has "
            f"{_size(free)} free. End what else uses it, or take a larger machine, or "
            "weights of fewer bits (model.transformers.weights)."
        )


def check_way(model: str, made: int, device: torch.device) -> None:
    """Raises EngineError where this computer has less than is made there on the way to `device`."""
    if made > (free := free_bytes(HOST)):
        raise EngineError(
            f"On their way to {device}, the weights of {model} take {_size(made)} of this "
            f"computer's own memory, which has {_size(free)} free. End what else uses it, or take "
            "a larger machine."
        )


def made_bytes(model: Any, dtype: torch.dtype, files: Iterable[Path]) -> int:
    """What of the weights of `model` the library makes, of what `files` hold, as it loads them."""
    held: Counter[tuple[int, ...]] = Counter()
    for file in files:
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 (it can't be iterated over)
                tensor = tensors.get_slice(name)
                if tensor.get_dtype() == _KINDS[dtype]:
                    held[tuple(tensor.get_shape())] += 1
    wanted = Counter(tuple(weight.shape) for weight in model.parameters())
    return sum(
        count * torch.Size(shape).numel() * dtype.itemsize
        for shape, count in (wanted - held).items()
    )


def free_bytes(device: torch.device) -> int:
    """Memory that can still be had on a device."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    with suppress(OSError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    # macOS tells only how much there is.
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
