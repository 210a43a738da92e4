"""A model that has no entry: taken the way that is common to most, if that turns out to fit."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers import AutoProcessor, DynamicCache

from assistant.engines.transformers.models.architecture import Architecture
from assistant.errors import EngineError
from audio_io.pcm import SAMPLE_RATE_HZ, Int16Array

# Two ways of computing in bf16 agree to about a thousandth of that.
LEAST_AGREEMENT = 0.999


class Other(Architecture):
    """One whose processor, called with a single sound, tells all: features and tokens.

    Its `extractor` is that processor.
    """

    def __init__(self, config: Any) -> None:
        """Raises EngineError where the model hears nothing, or answers with no text."""
        self.model_type = config.model_type
        self.library_class = next(iter(config.architectures or ()), "")
        lacks = [
            what
            for what, there in (
                ("a token for audio", hasattr(config, "audio_token_id")),
                ("a class of its own in the library", hasattr(transformers, self.library_class)),
                ("text as its output", hasattr(self.model_class, "generate")),
                ("an encoder of audio", hasattr(self.model_class, "get_audio_features")),
            )
            if not there
        ]
        if lacks:
            raise EngineError(f"It lacks {' and '.join(lacks)}.")

    @property
    def model_class(self) -> Any:
        return getattr(transformers, self.library_class, None)

    def front_end(self, folder: Path) -> tuple[Any, Any]:
        processor = AutoProcessor.from_pretrained(  # type: ignore[no-untyped-call]
            folder, trust_remote_code=False
        )
        processor.tokenizer.chat_template = processor.chat_template
        return processor.tokenizer, processor

    def finish(self, model: Any, extractor: Any, folder: Path) -> None:
        """Try it out: a second of noise has to be heard as the library's own code hears it."""
        noise = np.random.default_rng(0).normal(0, 3000, SAMPLE_RATE_HZ).astype(np.int16)
        try:
            agreement = self._agreement(model, extractor, noise)
        except Exception as error:
            raise EngineError(
                f"There is no entry for {self.model_type}, and the way that is common to most "
                f"models fails with it: {error}"
            ) from error
        if not agreement > LEAST_AGREEMENT:
            raise EngineError(
                f"There is no entry for {self.model_type}, and the way that is common to most "
                f"models computes something else than its own code (agreement {agreement:.3f})."
            )

    def _agreement(self, model: Any, extractor: Any, samples: Int16Array) -> float:
        """Of the logits with those of the library's own forward: a cosine."""
        inputs = _inputs(model, extractor, samples)
        ids = inputs["input_ids"]
        expected = model(**inputs).logits[:, -1]
        embeddings = self.embed(model, ids)
        heard = self.encode_audio(model, extractor, samples)
        embeddings[ids == self.audio_token_id(model.config)] = heard.to(embeddings.dtype)
        positions = torch.arange(ids.shape[1], device=ids.device)[None]
        hidden = self.hidden_states(model, embeddings, positions, DynamicCache())
        ours = self.logits(model, hidden[:, -1])
        return float(torch.cosine_similarity(ours.float(), expected.float()))

    def audio_tokens(self, model: Any, extractor: Any, sample_count: int) -> int:
        return _tokens(extractor, self.audio_token_id(model.config), sample_count)

    def encode_audio(self, model: Any, extractor: Any, samples: Int16Array) -> torch.Tensor:
        inputs = _inputs(model, extractor, samples)
        features = {
            name: value
            for name, value in inputs.items()
            if name not in extractor.tokenizer.model_input_names
        }
        heard = model.get_audio_features(**features)
        encoded: torch.Tensor = heard.pooler_output
        return encoded.reshape(-1, encoded.shape[-1])


@lru_cache(maxsize=1024)
def _tokens(processor: Any, audio_token_id: int, sample_count: int) -> int:
    ids = _processed(processor, audio_token_id, np.zeros(sample_count, np.int16))["input_ids"]
    return int((ids == audio_token_id).sum())


def _inputs(model: Any, processor: Any, samples: Int16Array) -> dict[str, torch.Tensor]:
    processed = _processed(processor, model.config.audio_token_id, samples)
    return {
        name: value.to(model.device, model.dtype if value.is_floating_point() else None)
        for name, value in processed.items()
    }


def _processed(processor: Any, audio_token_id: int, samples: Int16Array) -> dict[str, torch.Tensor]:
    """What the processor makes of a sound alone."""
    token = processor.tokenizer.convert_ids_to_tokens(audio_token_id)
    return dict(
        processor(text=[token], audio=[samples.astype(np.float32) / 32_768], return_tensors="pt")
    )
