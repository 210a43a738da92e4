"""Low-rank adapters, as PEFT keeps them in a folder, without that package."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch.nn.functional import linear

from assistant.errors import EngineError

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PREFIX, _DOWN, _UP = "base_model.model.", ".lora_A.weight", ".lora_B.weight"


class Switch(torch.nn.Module):
    """For which tokens adapters act."""

    on: torch.Tensor
    """Of what is being computed, (b, n, 1): 1 where they do, 0 where they don't."""


class Switched(torch.nn.Module):
    """A linear layer, and an adapter of it that acts for some tokens."""

    def __init__(
        self, layer: torch.nn.Linear, down: torch.Tensor, up: torch.Tensor, switch: Switch
    ) -> None:
        """`down`, `up`: as `_adapters` gives them."""
        super().__init__()
        self.layer, self.switch = layer, switch
        self.down, self.up = (
            torch.nn.Parameter(matrix.to(layer.weight.dtype), requires_grad=False)
            for matrix in (down, up)
        )

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        added = linear(linear(hidden, self.down), self.up) * self.switch.on
        whole: torch.Tensor = self.layer(hidden) + added
        return whole


def attach(folder: Path, model: Any, switch: Switch) -> None:
    """Have the folder's adapter act in `model` where `switch` is on. Raises EngineError."""
    for place, layer, down, up in _adapters(folder, model):
        model.set_submodule(place, Switched(layer, down, up, switch))


def _adapters(folder: Path, model: Any) -> Iterator[tuple[str, Any, torch.Tensor, torch.Tensor]]:
    """The linear layers of `model` that the folder's adapter adds to, and what it adds to each.

    With each its place in the model. Its output y of x becomes y + (x down^T) up^T: float32 down
    (rank, in) and up (out, rank), which is scaled already. Raises EngineError where they don't fit.
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
        place = name.removeprefix(_PREFIX).removesuffix(_DOWN)
        try:
            layer = model.get_submodule(place)
        except AttributeError as error:
            raise EngineError(f"{folder} adapts {place}, which the model hasn't.") from error
        # Where PEFT is installed, the library has wrapped the layer in an adapter of its own.
        layer = getattr(layer, "base_layer", layer)
        up = weights[name.removesuffix(_DOWN) + _UP]
        device = layer.weight.device
        yield place, layer, down.to(device, torch.float32), up.to(device, torch.float32) * scale
