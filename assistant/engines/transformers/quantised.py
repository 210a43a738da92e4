"""Weights of fewer bits, by torchao: a decode step reads all of them, and so takes the less.

What is made smaller are the linear layers of the language model, which are nearly all of it. The
audio encoder, the embeddings and the head stay as they are, and with them what they may share.
Nothing else knows of it: a layer's weight is a tensor of another kind.

    int8    1 byte each     with a scale for each row. A layer widens them before it multiplies by
                            them: that saves memory, and costs time
    int4    0.53 bytes      with two numbers for each group of 128. Multiplied by as they are, which
                            pays for a few tokens at once. CUDA, compute capability 8.0
    fp8     1 byte          with a scale for each row. Multiplied by as they are, with the tokens
                            rounded to fp8 too: in one operation for a layer where the package mslk
                            is installed, else in seven. CUDA, compute capability 8.9
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal, assert_never

import torch

from assistant.engines.transformers.models.architecture import Architecture
from assistant.errors import EngineError

Kind = Literal["int8", "int4", "fp8"]

# Weights of int4 that share a scale and a zero, and how many of a row its kernel takes at a time.
_GROUP, _TILE = 128, 1024


@dataclass(frozen=True, slots=True)
class _Format:
    """What the kernels of a kind ask for."""

    capability: tuple[int, int] | None
    """Least compute capability of a CUDA device; None: any device does."""
    inputs: int
    """What a layer's inputs are a multiple of."""
    outputs: int
    """The same of its outputs."""


_FORMATS: dict[Kind, _Format] = {
    "int8": _Format(None, 1, 1),
    "int4": _Format((8, 0), _GROUP, 8),
    "fp8": _Format((8, 9), 16, 16),
}


def check_available(kind: Kind, device: torch.device) -> None:
    """Raises EngineError where weights of this kind can't be had, or not on that device."""
    if find_spec("torchao") is None:
        raise EngineError(
            f"model.transformers.weights is {kind}, which needs the package torchao. Install it "
            "with: pip install 'streaming-voice-assistant[quantised]'"
        )
    least = _FORMATS[kind].capability
    if least is None:
        return
    capability = torch.cuda.get_device_capability(device) if device.type == "cuda" else (0, 0)
    if capability < least:
        raise EngineError(
            f"Weights in {kind} need a CUDA device of compute capability {least[0]}.{least[1]}, "
            f"and {device} is none. int8 can be had anywhere."
        )


def saved_bytes(architecture: Architecture, model: Any, dtype: torch.dtype, kind: Kind) -> int:
    """How much less the weights of `model`, computed with as `dtype`, take in this kind.

    Raises EngineError where most of its language model can't be of it.
    """
    layers = list(_linear_layers(architecture, model, kind))
    smaller = sum(layer.weight.numel() for layer in layers)
    there = sum(weight.numel() for weight in architecture.decoder(model).layers.parameters())
    if 2 * smaller < there:
        raise EngineError(
            f"Of its language model, {smaller / there:.0%} could be in {kind}: the rest is not in "
            "linear layers, as experts aren't, or in layers of other widths. Leave out "
            "model.transformers.weights."
        )
    return smaller * dtype.itemsize - sum(_bytes(layer, kind) for layer in layers)


@torch.no_grad()
def quantise(architecture: Architecture, model: Any, kind: Kind, device: torch.device) -> None:
    """Make the weights of `model` smaller, layer by layer, each on `device`, where it stays."""
    from torchao.quantization import quantize_

    config = _config(kind)
    for layer in _linear_layers(architecture, model, kind):
        quantize_(layer.to(device), config, filter_fn=None)


def bytes_of(weight: torch.Tensor) -> int:
    """What a tensor takes, also where it is made of several."""
    if not hasattr(weight, "__tensor_flatten__"):
        return weight.nbytes
    names, _ = weight.__tensor_flatten__()
    return sum(bytes_of(getattr(weight, name)) for name in names)


def _linear_layers(architecture: Architecture, model: Any, kind: Kind) -> Iterator[torch.nn.Linear]:
    """Those of the language model that the kernels take."""
    needs = _FORMATS[kind]
    for module in architecture.decoder(model).layers.modules():
        if (
            isinstance(module, torch.nn.Linear)
            and module.in_features % needs.inputs == 0
            and module.out_features % needs.outputs == 0
        ):
            yield module


def _config(kind: Kind) -> Any:
    """How torchao is told. Its settings for torch's compiler are left alone."""
    from torchao.quantization import (
        Float8DynamicActivationFloat8WeightConfig,
        Int4WeightOnlyConfig,
        Int8WeightOnlyConfig,
        PerRow,
    )

    match kind:
        case "int8":
            return Int8WeightOnlyConfig(set_inductor_config=False)
        case "int4":
            return Int4WeightOnlyConfig(
                _GROUP, set_inductor_config=False, int4_packing_format="tile_packed_to_4d"
            )
        case "fp8":
            return Float8DynamicActivationFloat8WeightConfig(
                granularity=PerRow(), set_inductor_config=False
            )
        case _:
            assert_never(kind)


def _bytes(layer: torch.nn.Linear, kind: Kind) -> int:
    """What the weights of a layer take, once they are of that kind."""
    rows, columns = layer.out_features, layer.in_features
    match kind:
        case "int8":
            # The scale is a float32, the zero, which always is 0, an int8.
            return rows * (columns + 4 + 1)
        case "int4":
            columns = -(-columns // _TILE) * _TILE
            return rows * (columns // 2 + columns // _GROUP * 2 * 2)
        case "fp8":
            return rows * (columns + 4)
        case _:
            assert_never(kind)
