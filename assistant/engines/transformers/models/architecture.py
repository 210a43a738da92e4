"""How a kind of model takes in audio and text: what is common to nearly all of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoFeatureExtractor, AutoTokenizer, GenerationConfig
from transformers.cache_utils import Cache

from assistant.engines.engine import Mode
from assistant.errors import EngineError
from audio_io.pcm import Int16Array

Chat = list[dict[str, Any]]
"""Messages as chat templates take them: a user's `content` is a list of texts and sounds."""


class Architecture:
    """A kind of model. Its entry is a subclass, which names it and overrides what is particular.

    An entry keeps nothing: the library's model, and its audio front end (`extractor`), are given
    to its methods.
    """

    model_type: str
    """What `config.json` calls it."""
    library_class: str
    """The class of the library that answers with text."""
    ends: tuple[str, ...] = ()
    """Tokens that end a reply, where the generation config doesn't tell all."""
    around: tuple[str, str] = ("", "")
    """What is written before and after the tokens of a sound, where the template doesn't."""
    unused: tuple[str, ...] = ()
    """Parts of the model that neither audio nor text needs; their memory is freed."""

    hearing_matters = False
    """Whether a prompt with audio is computed another way than one without, from its first token
    on, so that nothing of one serves the other."""

    encodes_together = False
    """Whether `encode_audios` takes several at once, for hardly more than the longest alone.

    Not where the encoder hears the silence that makes sounds equally long, nor where it hears 30 s
    of every sound."""

    # Loading.

    def part(self, config: Any) -> Any:
        """The configuration of what is loaded, where a checkpoint holds more."""
        return config

    @property
    def model_class(self) -> Any:
        """The library's class."""
        return getattr(transformers, self.library_class)

    def front_end(self, folder: Path) -> tuple[Any, Any]:
        """The tokenizer, with its chat template, and what makes features of samples."""
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        # Where older checkpoints keep that of their processor.
        if (template := folder / "chat_template.json").exists():
            tokenizer.chat_template = json.loads(template.read_text())["chat_template"]
        extractor = AutoFeatureExtractor.from_pretrained(  # type: ignore[no-untyped-call]
            folder, trust_remote_code=False
        )
        return tokenizer, extractor

    def finish(self, model: Any, extractor: Any, folder: Path) -> None:
        """What remains to be done once the weights are loaded. Raises EngineError."""

    def context_tokens(self, config: Any) -> int:
        """Most tokens that the model can look back on."""
        tokens: int = config.get_text_config().max_position_embeddings
        return tokens

    # The prompt.

    def modes(self, tokenizer: Any) -> frozenset[Mode]:
        """What it may be given."""
        return frozenset({"voice_chat", "audio_analysis", "text"})

    def chat(self, messages: Chat, audio_token: str) -> Chat:
        """The messages in the form that the chat template makes the best of.

        `audio_token` in a text of theirs is where a sound is.
        """
        return messages

    def transcription(self, language: str) -> str | None:
        """What asks for a transcript behind a user's sounds; None where nothing does but words.

        `language`: ISO 639-1, or "" for whichever.
        """
        return None

    def audio_token_id(self, config: Any) -> int:
        """The token that stands for audio, as many times as the audio takes."""
        id_: int = config.audio_token_id
        return id_

    def audio_tokens(self, model: Any, extractor: Any, sample_count: int) -> int:
        """How many tokens stand for so much audio."""
        raise NotImplementedError

    # What the model computes.

    def encode_audio(self, model: Any, extractor: Any, samples: Int16Array) -> torch.Tensor:
        """What stands for audio between the embeddings of text: (tokens, width).

        An entry gives either this or `encode_audios`.
        """
        return self.encode_audios(model, extractor, [samples])[0]

    def encode_audios(
        self, model: Any, extractor: Any, sounds: Sequence[Int16Array]
    ) -> list[torch.Tensor]:
        """The same of several sounds: of each what it comes to alone."""
        return [self.encode_audio(model, extractor, samples) for samples in sounds]

    def embed(self, model: Any, ids: torch.Tensor) -> torch.Tensor:
        """The embeddings of text tokens: int64 (..., n) to (..., n, width)."""
        embedded: torch.Tensor = model.get_input_embeddings()(ids)
        return embedded

    def marked(self, embeddings: torch.Tensor, hears: torch.Tensor) -> torch.Tensor:
        """Embeddings, (..., width), with what the model has to know of the prompts they are of.

        `hears`: for each, whether its prompt has audio, bool (all,). Those of audio itself
        (`encode_audio`) are marked already.
        """
        return embeddings

    def decoder(self, model: Any) -> Any:
        """The language model without its head."""
        return model.base_model.language_model

    def hidden_states(
        self, model: Any, embeddings: torch.Tensor, positions: torch.Tensor, cache: Cache
    ) -> torch.Tensor:
        """Take (b, n, width) at positions (b, n) through the language model: (b, n, width)."""
        hidden: torch.Tensor = self.decoder(model)(
            inputs_embeds=embeddings,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state
        return hidden

    def logits(self, model: Any, hidden: torch.Tensor) -> torch.Tensor:
        """Of the tokens to follow hidden states, (b, width): (b, vocabulary)."""
        logits: torch.Tensor = model.get_output_embeddings()(hidden)
        return logits


def end_ids(config: GenerationConfig) -> frozenset[int]:
    """The tokens that end a reply. Raises EngineError where they are none."""
    ids: object = config.eos_token_id
    given = ids if isinstance(ids, list | tuple) else [] if ids is None else [ids]
    if not all(isinstance(id_, int) for id_ in given):
        raise EngineError(
            f"generation_config.json: eos_token_id is {ids!r}, and not the number of a token, or "
            "several in a list."
        )
    return frozenset(given)
