"""Low-rank adapters, as PEFT keeps them in a folder, without that package."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from assistant.errors import EngineError

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PREFIX, _DOWN, _UP = "base_model.model.", ".lora_A.weight", ".lora_B.weight"


def adapters(folder: Path, model: Any) -> Iterator[tuple[Any, torch.Tensor, torch.Tensor]]:
    """The linear layers of `model` that the folder's adapter adds to, and what it adds to each.

    A layer's output y of x becomes y + (x down^T) up^T: float32 down (rank, in) and up (out, rank),
    which is scaled already. Raises EngineError where they don't fit.
    """
    try:
        config = json.loads((folder / CONFIG).read_text())
        weights = load_file(folder / WEIGHTS)
    except (OSError, ValueError) as error:
        raise EngineError(f"{folder} holds no adapter that can be read: {error}") from error
    rank = config["r"]
    scale = config["lora_alpha"] / (math.sqrt(rank) if config.get("use_rslora") else rank)
    for name, down in weights.items():
        if not name.endswith(_DOWN):
            continue
        layer = name.removeprefix(_PREFIX).removesuffix(_DOWN)
        try:
            module = model.get_submodule(layer)
        except AttributeError as error:
            raise EngineError(f"{folder} adapts {layer}, which the model hasn't.") from error
        up = weights[name.removesuffix(_DOWN) + _UP]
        device = module.weight.device
        yield module, down.to(device, torch.float32), up.to(device, torch.float32) * scale


def merge(folder: Path, model: Any) -> None:
    """Add the folder's adapter to the weights of `model`, for good. Raises EngineError."""
    for module, down, up in adapters(folder, model):
        # Rounded once, at the end.
        module.weight.data = (module.weight.float() + up @ down).to(module.weight.dtype)
