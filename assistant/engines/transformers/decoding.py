"""From logits to tokens, and from tokens to text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream
from transformers import (
    LogitsProcessorList,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from assistant.engines.engine import Text
from assistant.engines.transformers.model import Checkpoint
from assistant.engines.transformers.opening import Opening
from assistant.engines.transformers.settings import MIN_TEMPERATURE, TransformersSettings

# What `generate` takes where a checkpoint says nothing.
DEFAULT_TOP_K = 50
NO_TOKEN = -1
"""In the place of a token that can't be told."""

Number = TypeVar("Number", int, float)


@dataclass(slots=True, eq=False)
class Choices:
    """What a reply's next token depends on beside its logits."""

    said: torch.Tensor | None
    """bool (vocabulary,): which tokens were there before; None where that makes no difference."""
    temperature: float
    """0: always the likeliest token."""
    random: torch.Generator | None
    """What is drawn with; None: as the device draws."""
    opening: Opening = field(default_factory=Opening)
    """What the reply has to begin with."""


class Sampler:
    """Chooses tokens as the checkpoint's generation config says."""

    def __init__(self, checkpoint: Checkpoint, settings: TransformersSettings) -> None:
        """What `settings` says goes before the config; a temperature of 0 is greedy."""
        config = checkpoint.generation
        configured = _or(config.temperature, 1.0) if config.do_sample else 0.0
        self._temperature = _or(settings.temperature, configured)
        self._vocabulary = checkpoint.vocabulary
        self._device = checkpoint.device
        self._seed = settings.seed
        self._likeliest = likeliest_on_cpu if checkpoint.device.type == "cpu" else likeliest
        self._penalty = _or(settings.repetition_penalty, _or(config.repetition_penalty, 1.0))
        self._bias: torch.Tensor | None = None
        """float32 (vocabulary,): what keeps tokens from being chosen."""
        if config.suppress_tokens:
            self._bias = torch.zeros(checkpoint.vocabulary, device=checkpoint.device)
            self._bias[config.suppress_tokens] = -torch.inf
        self._warpers = LogitsProcessorList()
        if top_k := _or(settings.top_k, _or(config.top_k, DEFAULT_TOP_K)):
            self._warpers.append(TopKLogitsWarper(top_k))
        if (top_p := _or(settings.top_p, _or(config.top_p, 1.0))) < 1:
            self._warpers.append(TopPLogitsWarper(top_p))

    def for_a_reply(self, prompt_ids: Sequence[int], temperature: float | None = None) -> Choices:
        """Of a reply to this prompt; where there is a seed, they are the same every time.

        `temperature`: of this reply, where it has one of its own; too little to compute with is 0.
        """
        said = random = None
        if self._penalty != 1:
            said = torch.zeros(self._vocabulary, dtype=torch.bool, device=self._device)
            # What stands for audio may be none of those that the model can say.
            said[[id_ for id_ in prompt_ids if id_ < self._vocabulary]] = True
        if self._seed is not None:
            random = torch.Generator().manual_seed(self._seed)
        wanted = _or(temperature, self._temperature)
        return Choices(said, wanted if wanted >= MIN_TEMPERATURE else 0.0, random)

    def choose(self, replies: Sequence[Choices], logits: torch.Tensor) -> list[int]:
        """The next token of each reply, given its logits: float32 (replies, vocabulary).

        It is NO_TOKEN where the logits are no numbers. What can be is done for all at once, since
        on a GPU each operation costs a launch, and each look at a result a wait.
        """
        scores = self._scored(replies, logits)
        tokens, best = self._likeliest(scores)
        # The maximum of numbers and NaN is NaN: it tells of them all.
        sound = [row for row, maximum in enumerate(best) if math.isfinite(maximum)]
        if len(sound) < len(tokens):
            tokens = [token if row in sound else NO_TOKEN for row, token in enumerate(tokens)]
        if drawing := [row for row in sound if replies[row].temperature]:
            drawn = self._drawn([replies[row] for row in drawing], scores[drawing])
            for row, token in zip(drawing, drawn, strict=True):
                tokens[row] = token
        if self._penalty != 1:
            for row in sound:
                said = replies[row].said
                assert said is not None
                said[tokens[row]] = True
        for reply, token in zip(replies, tokens, strict=True):
            reply.opening.take(token)
        return tokens

    def _scored(self, replies: Sequence[Choices], logits: torch.Tensor) -> torch.Tensor:
        """What the choice goes by, of the same shape."""
        scores = logits
        if self._penalty != 1:
            penalised = torch.where(scores < 0, scores * self._penalty, scores / self._penalty)
            said = torch.stack([reply.said for reply in replies if reply.said is not None])
            scores = torch.where(said, penalised, scores)
        if self._bias is not None:
            # Added, not filled in, so that what is no number stays none.
            scores = scores + self._bias
        for row, reply in enumerate(replies):
            if ways := reply.opening.ways:
                # What is never chosen else may have to be here.
                scores = scores.clone()
                scores[row] = -torch.inf
                scores[row, ways] = logits[row, ways]
        return scores

    def _drawn(self, replies: Sequence[Choices], scores: torch.Tensor) -> list[int]:
        """At random, as the scores say: (replies, vocabulary)."""
        temperatures = torch.tensor([[reply.temperature] for reply in replies], device=self._device)
        # The warpers look at no ids.
        warped: torch.Tensor = self._warpers(None, scores / temperatures)  # type: ignore[arg-type]
        probabilities = warped.softmax(dim=-1)
        if self._seed is None:
            drawn = torch.multinomial(probabilities, num_samples=1)
        else:
            # A seed gives the same numbers on every device only where they are drawn on the CPU.
            rows = zip(replies, probabilities.cpu(), strict=True)
            drawn = torch.stack(
                [torch.multinomial(row, 1, generator=reply.random) for reply, row in rows]
            )
        tokens: list[int] = drawn[:, 0].tolist()
        return tokens


def likeliest(scores: torch.Tensor) -> tuple[list[int], list[float]]:
    """The best token of each row, (replies, vocabulary), and its score: NaN where there is one."""
    best, tokens = scores.max(dim=-1)
    return tokens.tolist(), best.tolist()


def likeliest_on_cpu(scores: torch.Tensor) -> tuple[list[int], list[float]]:
    """The same by numpy: of one row, in a tenth of torch's time."""
    numbers = scores.numpy()
    tokens: list[int] = numbers.argmax(axis=1).tolist()
    return tokens, [numbers.item(row, token) for row, token in enumerate(tokens)]


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
