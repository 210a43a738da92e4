"""Loading a checkpoint through the library's own code: safetensors only, and no remote code."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, GenerationConfig
from transformers.cache_utils import Cache

from assistant.engines.engine import Mode
from assistant.engines.transformers.catalogue import reason_against
from assistant.engines.transformers.failures import told
from assistant.engines.transformers.files import (
    CONFIG,
    GENERATION,
    find_checkpoint,
    find_config,
    weights_in,
)
from assistant.engines.transformers.models.architecture import Architecture, end_ids
from assistant.engines.transformers.models.registry import ARCHITECTURES, architecture_of
from assistant.engines.transformers.quantised import check_available, quantise, saved_bytes
from assistant.engines.transformers.room import check_room, check_way, made_bytes
from assistant.engines.transformers.settings import TransformersSettings
from assistant.errors import EngineError
from audio_io.pcm import Int16Array


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model on its device, and what belongs to it."""

    model: Any
    """The library's class for the architecture, none of which is trained."""
    architecture: Architecture
    """What is particular to its kind."""
    tokenizer: Any
    """The library's, with the chat template."""
    extractor: Any
    """The audio front end."""
    generation: GenerationConfig
    context_tokens: int
    """Most tokens that a prompt and its reply may take together."""
    device: torch.device
    weights: str = "full"
    """In what its language model's weights are kept, as the settings name it."""

    @property
    def device_name(self) -> str:
        """The device and the numbers it computes with, for people."""
        on_gpu = self.device.type == "cuda"
        name = torch.cuda.get_device_name(self.device) if on_gpu else str(self.device)
        computed = f"{name} in {str(self.model.dtype).removeprefix('torch.')}"
        return computed if self.weights == "full" else f"{computed}, weights in {self.weights}"

    @property
    def cache_shape(self) -> CacheShape:
        """What the model keeps of each token."""
        text = self.model.config.get_text_config()
        # The last ones may look at what others keep.
        count = text.num_hidden_layers - getattr(text, "num_kv_shared_layers", 0)
        layers = tuple(
            LayerShape(
                heads=layer.num_key_value_heads,
                width=getattr(layer, "head_dim", None)
                or layer.hidden_size // layer.num_attention_heads,
            )
            for layer in (text.per_layer_config[number] for number in range(count))
        )
        return CacheShape(layers, bytes_per_number=self.model.dtype.itemsize)

    @property
    def modes(self) -> frozenset[Mode]:
        """What it may be given."""
        return self.architecture.modes(self.tokenizer)

    @property
    def audio_token_id(self) -> int:
        """The token that stands for audio, as many times as the audio takes."""
        return self.architecture.audio_token_id(self.model.config)

    @property
    def vocabulary(self) -> int:
        """How many tokens there are, with those that the head has and the tokenizer hasn't."""
        size: int = self.model.get_output_embeddings().out_features
        return size

    def audio_tokens(self, sample_count: int) -> int:
        """How many tokens stand for so much audio."""
        return self.architecture.audio_tokens(self.model, self.extractor, sample_count)

    def encode_audio(self, samples: Int16Array) -> torch.Tensor:
        """What stands for audio between the embeddings of text: (tokens, width).

        `samples`: int16 (n,), 16 kHz mono, at most 30 s.
        """
        return self.encode_audios([samples])[0]

    def encode_audios(self, sounds: Sequence[Int16Array]) -> list[torch.Tensor]:
        """The same of several sounds: of each what it comes to alone."""
        encoded = self.architecture.encode_audios(self.model, self.extractor, sounds)
        # Copies, since a view would keep all that was computed of all of them in memory.
        return [of_one.clone() for of_one in encoded]

    def embed(self, ids: Sequence[int], hears: Sequence[bool]) -> torch.Tensor:
        """The embeddings of n text tokens: (n, width).

        `hears`: for each, whether the prompt that it is of has audio.
        """
        return self._embedded(torch.tensor(ids, device=self.device), self.marks(hears))

    def marks(self, hears: Sequence[bool]) -> torch.Tensor | None:
        """For each of n tokens, whether the prompt that it is of has audio: bool (n,).

        None where that makes no difference.
        """
        if not self.architecture.hearing_matters:
            return None
        return torch.tensor(hears, device=self.device)

    def use_attention(self, name: str) -> None:
        """Have the language model attend by a function that the library knows by this name."""
        self.architecture.decoder(self.model).set_attn_implementation(name)

    def hidden_states(
        self, embeddings: torch.Tensor, positions: torch.Tensor, cache: Cache
    ) -> torch.Tensor:
        """Take (b, n, width) at positions (b, n) through the language model: (b, n, width).

        `cache` holds what came before, and takes in what is new.
        """
        return self.architecture.hidden_states(self.model, embeddings, positions, cache)

    def step(
        self,
        ids: torch.Tensor,
        marks: torch.Tensor | None,
        positions: torch.Tensor,
        cache: Cache,
    ) -> torch.Tensor:
        """From tokens of text to the logits of what follows each: float32 (b, vocabulary).

        `ids`: int64 (b, 1); `marks`: bool (b,), or None, as `marks` gives them; `positions` and
        `cache` as of `hidden_states`.
        """
        return self.logits(self.hidden_states(self._embedded(ids, marks), positions, cache))

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Of what follows the last of hidden states, (b, n, width): float32 (b, vocabulary)."""
        # Of one position alone: those of a long prompt would take hundreds of megabytes.
        return self.architecture.logits(self.model, hidden[:, -1]).float()

    def _embedded(self, ids: torch.Tensor, marks: torch.Tensor | None) -> torch.Tensor:
        embedded = self.architecture.embed(self.model, ids)
        return embedded if marks is None else self.architecture.marked(embedded, marks)


@dataclass(frozen=True, slots=True)
class LayerShape:
    """The keys of one token in a layer; its values are as many."""

    heads: int
    width: int
    """Of a head."""


@dataclass(frozen=True, slots=True)
class CacheShape:
    """The keys and values of one token."""

    layers: tuple[LayerShape, ...]
    bytes_per_number: int

    @property
    def bytes_per_token(self) -> int:
        numbers = sum(2 * layer.heads * layer.width for layer in self.layers)
        return numbers * self.bytes_per_number


def load(model: str, settings: TransformersSettings) -> Checkpoint:
    """Load `model` (hub id or folder). Raises EngineError that says what to do."""
    device, kind = _device(settings), settings.weights
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    try:
        if kind != "full":
            check_available(kind, device)
        config = _config(model, find_config(model))
        architecture = _architecture(model, config)
        config = architecture.part(config)
        with torch.device("meta"):
            unfilled = architecture.model_class(config)
        needed = sum(weight.numel() for weight in unfilled.parameters()) * dtype.itemsize
        if kind != "full":
            needed -= saved_bytes(architecture, unfilled, dtype, kind)
        check_room(model, needed, device)
        folder = find_checkpoint(model, ends_known=bool(architecture.ends))
        check_way(model, made_bytes(unfilled, dtype, weights_in(folder)), device)
        tokenizer, extractor = architecture.front_end(folder)
        loaded, report = architecture.model_class.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
        absent = {
            name
            for name in map(str, {*report["missing_keys"], *report["mismatched_keys"]})
            if not any(f".{part}." in f".{name}" for part in architecture.unused)
        }
        if absent:
            raise EngineError(
                f"The weights of {model} are not those of its architecture: {len(absent)} tensors "
                f"are missing or of another shape, such as {min(absent)}."
            )
        generation = _generation_config(folder)
        ends = {tokenizer.convert_tokens_to_ids(token) for token in architecture.ends}
        generation.eos_token_id = sorted(end_ids(generation) | ends) or None
        for part in architecture.unused:
            owner, _, name = part.rpartition(".")
            delattr(loaded.base_model.get_submodule(owner), name)
        # So that nothing is kept for gradients, whoever computes.
        loaded.eval().requires_grad_(False)
        # Whole, they might not fit where they are to go.
        loaded = loaded.to(device if kind == "full" else "cpu")
        architecture.finish(loaded, extractor, folder)
        if kind != "full":
            quantise(architecture, loaded, kind, device)
            loaded = loaded.to(device)
    except EngineError:
        raise
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise EngineError(
            f"{model} doesn't fit into the memory of {device}: {told(error)}."
        ) from error
    except Exception as error:
        # The library raises most kinds for what is wrong with a checkpoint.
        raise EngineError(f"{model} can't be loaded: {told(error)}.") from error
    return Checkpoint(
        model=loaded,
        architecture=architecture,
        tokenizer=tokenizer,
        extractor=extractor,
        generation=generation,
        context_tokens=min(architecture.context_tokens(config), settings.max_context_tokens),
        device=device,
        weights=kind,
    )


def _device(settings: TransformersSettings) -> torch.device:
    available = torch.cuda.is_available()
    match settings.device:
        case "auto":
            return torch.device("cuda" if available else "cpu")
        case "cuda" if not available:
            raise EngineError(
                f"torch {torch.__version__} finds no CUDA device. See with nvidia-smi whether "
                "there is one; device: cpu does without."
            )
        case name:
            return torch.device(name)


def _config(model: str, folder: Path) -> Any:
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    # The latter for a name that is none.
    except (ValueError, TypeError) as error:
        described = json.loads((folder / CONFIG).read_text())
        # After its first sentence, the library names hundreds, or what to install.
        why = reason_against(str(described.get("model_type"))) or str(error).partition(". ")[0]
        raise EngineError(
            f"{folder / CONFIG} names no architecture that is known: {why.rstrip('.')}. {_served()}"
        ) from error
    return config


def _architecture(model: str, config: Any) -> Architecture:
    try:
        return architecture_of(config)
    except EngineError as error:
        raise EngineError(
            f"{model} is of the architecture {config.model_type}, which is not served. {error} "
            f"{_served()}"
        ) from error


def _served() -> str:
    return f"Served are {', '.join(sorted(ARCHITECTURES))}: `assistant models` tells of each."


def _generation_config(folder: Path) -> GenerationConfig:
    # Not the model's, since the library takes a damaged one for none.
    if (folder / GENERATION).exists():
        return GenerationConfig.from_pretrained(folder)
    return GenerationConfig()  # type: ignore[no-untyped-call]
