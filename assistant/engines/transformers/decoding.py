"""From logits to tokens, and from tokens to text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import copy
from typing import TypeVar

import torch
from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream
from transformers import (
    LogitsProcessorList,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from assistant.engines.engine import Text
from assistant.engines.transformers.model import Checkpoint
from assistant.engines.transformers.settings import TransformersSettings
from assistant.errors import EngineError

# What `generate` takes where a checkpoint says nothing.
DEFAULT_TOP_K = 50

Number = TypeVar("Number", int, float)


class Sampler:
    """Chooses tokens as the checkpoint's generation config says."""

    def __init__(self, checkpoint: Checkpoint, settings: TransformersSettings) -> None:
        """What `settings` says goes before the config; a temperature of 0 is greedy."""
        config = checkpoint.generation
        temperature = settings.temperature
        if temperature is None:
            temperature = _or(config.temperature, 1.0) if config.do_sample else 0.0
        self._greedy = not temperature
        self._seed = settings.seed
        self._random: torch.Generator | None = None
        self._penalty = _or(settings.repetition_penalty, _or(config.repetition_penalty, 1.0))
        self._said = torch.zeros(checkpoint.vocabulary, dtype=torch.bool, device=checkpoint.device)
        """Which tokens were there before."""
        self._bias: torch.Tensor | None = None
        """float32 (vocabulary,): what keeps tokens from being chosen."""
        if config.suppress_tokens:
            self._bias = torch.zeros(checkpoint.vocabulary, device=checkpoint.device)
            self._bias[config.suppress_tokens] = -torch.inf
        self._warpers = LogitsProcessorList()
        if temperature:
            self._warpers.append(TemperatureLogitsWarper(float(temperature)))
            if top_k := _or(settings.top_k, _or(config.top_k, DEFAULT_TOP_K)):
                self._warpers.append(TopKLogitsWarper(top_k))
            if (top_p := _or(settings.top_p, _or(config.top_p, 1.0))) < 1:
                self._warpers.append(TopPLogitsWarper(top_p))

    def for_a_reply(self, prompt_ids: Sequence[int]) -> Sampler:
        """One that knows what was said before; where there is a seed, its choices start anew."""
        sampler = copy(self)
        if self._penalty != 1:
            sampler._said = self._said.clone()
            sampler._said[list(prompt_ids)] = True
        if self._seed is not None:
            sampler._random = torch.Generator().manual_seed(self._seed)
        return sampler

    def choose(self, logits: torch.Tensor) -> int:
        """The next token, given its logits (float32 (1, vocabulary)).

        Raises EngineError where the logits are no numbers.
        """
        scores = logits
        if self._penalty != 1:
            penalised = torch.where(scores < 0, scores * self._penalty, scores / self._penalty)
            scores = torch.where(self._said, penalised, scores)
        if self._bias is not None:
            # Added, not filled in, so that what is no number stays none.
            scores = scores + self._bias
        best, likeliest = scores.max(dim=-1)
        # The maximum of numbers and NaN is NaN: it tells of them all.
        if not math.isfinite(best):
            raise EngineError("The model's computation broke down: its logits are no numbers.")
        token = int(likeliest) if self._greedy else self._draw(scores)
        if self._penalty != 1:
            self._said[token] = True
        return token

    def _draw(self, scores: torch.Tensor) -> int:
        # The warpers look at no ids.
        warped: torch.Tensor = self._warpers(None, scores)  # type: ignore[arg-type]
        probabilities = warped.softmax(dim=-1)
        if self._random is not None:
            # A seed gives the same numbers on every device only where they are drawn on the CPU.
            probabilities = probabilities.cpu()
        return int(torch.multinomial(probabilities, num_samples=1, generator=self._random))


def _or(value: Number | None, default: Number) -> Number:
    return default if value is None else value


class TextStream:
    """Token ids in, pieces of text out as soon as their characters are whole."""

    def __init__(self, tokenizer: Tokenizer, special_ids: frozenset[int]) -> None:
        self._tokenizer = tokenizer
        self._special_ids = special_ids
        self._stream = DecodeStream()
        self._ids: list[int] = []

    def push(self, id_: int) -> Text | None:
        """The piece that this token completes, if any.

        Special tokens have no text, and go no further: a later prompt mustn't hold one.
        """
        if id_ in self._special_ids:
            return None
        self._ids.append(id_)
        if not (text := self._stream.step(self._tokenizer, id_)):
            return None
        ids, self._ids = tuple(self._ids), []
        return Text(text, ids)
