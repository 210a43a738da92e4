"""Loading a checkpoint through the library's own code: safetensors only, and no remote code."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForMultimodalLM, AutoProcessor, GenerationConfig
from transformers.cache_utils import Cache
from transformers.masking_utils import create_bidirectional_mask

from assistant.engines.transformers.files import CONFIG, find_checkpoint, find_config
from assistant.engines.transformers.settings import TransformersSettings
from assistant.errors import EngineError
from audio_io.pcm import Int16Array

# What the tests hold against the model card's own code.
ARCHITECTURES = frozenset({"qwen2_audio"})


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model on its device, and what belongs to it."""

    model: Any
    """The library's class for the architecture, in inference mode."""
    processor: Any
    """Tokenizer, chat template and audio front end."""
    generation: GenerationConfig
    context_tokens: int
    """Most tokens that a prompt and its reply may take together."""

    @property
    def device(self) -> torch.device:
        device: torch.device = self.model.device
        return device

    @property
    def device_name(self) -> str:
        """The device and the numbers it computes with, for people."""
        on_gpu = self.device.type == "cuda"
        name = torch.cuda.get_device_name(self.device) if on_gpu else str(self.device)
        return f"{name} in {str(self.model.dtype).removeprefix('torch.')}"

    @property
    def cache_shape(self) -> CacheShape:
        """What the model keeps of each token."""
        text = self.model.config.get_text_config()
        return CacheShape(
            layers=text.num_hidden_layers,
            heads=text.num_key_value_heads,
            head_width=getattr(text, "head_dim", text.hidden_size // text.num_attention_heads),
            bytes_per_number=self.model.dtype.itemsize,
        )

    def audio_tokens(self, sample_count: int) -> int:
        """How many tokens stand for so much audio: 25 per second for Qwen2-Audio."""
        frames = -(-sample_count // self.processor.feature_extractor.hop_length)
        return self._audio_lengths(frames)[1]

    def log_mel(self, samples: Int16Array) -> tuple[torch.Tensor, torch.Tensor]:
        """The audio front end: int16 (n,), 16 kHz mono, at most 30 s, to what the encoder takes.

        Returns the spectrogram, (1, mel bins, frames), and which of its frames are not padding,
        (1, frames).
        """
        extractor = self.processor.feature_extractor
        features = extractor(
            samples.astype("float32") / 32_768,
            sampling_rate=extractor.sampling_rate,
            padding="max_length",
            return_attention_mask=True,
            return_tensors="pt",
            device=str(self.device),
        )
        return features["input_features"].to(self.device), features["attention_mask"].to(
            self.device
        )

    def encode_audio(self, samples: Int16Array) -> torch.Tensor:
        """What stands for audio between the embeddings of text: (tokens, width)."""
        spectrogram, in_use = self.log_mel(samples)
        before_pooling, tokens = self._audio_lengths(int(in_use.sum()))
        positions = torch.arange((spectrogram.shape[-1] - 2) // 2 + 1, device=self.device)[None]
        tower = self.model.base_model.audio_tower
        mask = create_bidirectional_mask(
            config=tower.config,
            inputs_embeds=positions[..., None].to(self.model.dtype),
            attention_mask=(positions < before_pooling).long(),
        )
        encoded = tower(spectrogram, attention_mask=mask).last_hidden_state
        projected: torch.Tensor = self.model.base_model.multi_modal_projector(encoded)
        # A copy, since a view would keep all 30 s of it in memory.
        return projected[0, :tokens].clone()

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        """The embeddings of text tokens: int64 (1, n) to (1, n, width)."""
        embedded: torch.Tensor = self.model.get_input_embeddings()(ids)
        return embedded

    def hidden_states(
        self, embeddings: torch.Tensor, positions: torch.Tensor, cache: Cache
    ) -> torch.Tensor:
        """Take (1, n, width) at positions (1, n) through the language model: (1, n, width).

        `cache` holds what came before, and takes in what is new.
        """
        hidden: torch.Tensor = self.model.base_model.language_model(
            inputs_embeds=embeddings,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state
        return hidden

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Of the token to follow a hidden state, (1, width): float32 (1, vocabulary)."""
        # Of one position alone: those of a long prompt would take hundreds of megabytes.
        logits: torch.Tensor = self.model.get_output_embeddings()(hidden)
        return logits.float()

    def _audio_lengths(self, frames: int) -> tuple[int, int]:
        """Of so many frames of a spectrogram: positions in the encoder, and tokens."""
        lengths: tuple[int, int]
        lengths = self.model.base_model.audio_tower._get_feat_extract_output_lengths(frames)
        return lengths


@dataclass(frozen=True, slots=True)
class CacheShape:
    """The keys and values of one token."""

    layers: int
    heads: int
    head_width: int
    bytes_per_number: int

    @property
    def bytes_per_token(self) -> int:
        return 2 * self.layers * self.heads * self.head_width * self.bytes_per_number


def load(model: str, settings: TransformersSettings) -> Checkpoint:
    """Load `model` (hub id or folder). Raises EngineError that says what to do."""
    device = _device(settings)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    try:
        config = _config(model, find_config(model))
        _check_memory(model, _weights_bytes(config, dtype), free_bytes(device), device)
        folder = find_checkpoint(model)
        processor = AutoProcessor.from_pretrained(  # type: ignore[no-untyped-call]
            folder, trust_remote_code=False
        )
        loaded, report = AutoModelForMultimodalLM.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
        if absent := {*report["missing_keys"], *report["mismatched_keys"]}:
            raise EngineError(
                f"The weights of {model} are not those of its architecture: {len(absent)} tensors "
                f"are missing or of another shape, such as {min(map(str, absent))}."
            )
        # Read again, since the library takes a damaged one for none.
        generation = GenerationConfig.from_pretrained(folder)
        loaded = loaded.to(device).eval()
    except EngineError:
        raise
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise EngineError(f"{model} doesn't fit into the memory of {device}: {error}") from error
    except Exception as error:
        # The library raises most kinds for what is wrong with a checkpoint.
        raise EngineError(f"{model} can't be loaded: {error}") from error
    return Checkpoint(
        model=loaded,
        processor=processor,
        generation=generation,
        context_tokens=config.get_text_config().max_position_embeddings,
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
    except ValueError as error:
        raise EngineError(
            f"{folder / CONFIG} names no architecture that is known: {error}"
        ) from error
    if config.model_type not in ARCHITECTURES:
        raise EngineError(
            f"{model} is of the architecture {config.model_type}; this engine answers speech with "
            f"{', '.join(sorted(ARCHITECTURES))}, such as Qwen/Qwen2-Audio-7B-Instruct."
        )
    return config


def _weights_bytes(config: Any, dtype: torch.dtype) -> int:
    with torch.device("meta"):
        model: torch.nn.Module = AutoModelForMultimodalLM.from_config(  # type: ignore[no-untyped-call]
            config
        )
    return sum(parameter.numel() for parameter in model.parameters()) * dtype.itemsize


def _check_memory(model: str, needed: int, free: int, device: torch.device) -> None:
    if needed > free:
        raise EngineError(
            f"The weights of {model} take {_size(needed)} of memory, and {device} has "
            f"{_size(free)} free. End what else uses it, or take a larger machine."
        )


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"


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
