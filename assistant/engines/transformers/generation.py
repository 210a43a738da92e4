"""One reply in the making, a step at a time."""

from __future__ import annotations

import time
from typing import Literal

import numpy as np
import torch

from assistant.conversation import AudioPart, Message, Prompt
from assistant.engines.engine import (
    EngineInfo,
    Finished,
    PrefillReport,
    ReplyEvent,
    ReplyOptions,
    Started,
    Timings,
    TokenCount,
    Usage,
)
from assistant.engines.transformers.cache import KeyValueCache
from assistant.engines.transformers.decoding import Sampler, TextStream, end_ids
from assistant.engines.transformers.messages import Generate
from assistant.engines.transformers.model import Checkpoint
from assistant.engines.transformers.prompt import MAX_AUDIO_S, PromptRenderer
from assistant.engines.transformers.settings import TransformersSettings
from assistant.errors import EngineError
from audio_io.pcm import SAMPLE_RATE_HZ, Int16Array


class Generator:
    """Starts replies with one checkpoint."""

    def __init__(self, checkpoint: Checkpoint, settings: TransformersSettings) -> None:
        self.checkpoint = checkpoint
        self.settings = settings
        self.renderer = PromptRenderer(checkpoint)
        self.sampler = Sampler(checkpoint.generation, settings.temperature)
        tokenizer = checkpoint.processor.tokenizer
        self.tokenizer = tokenizer.backend_tokenizer
        self.special_ids = frozenset(tokenizer.all_special_ids) | {
            id_ for id_, token in tokenizer.added_tokens_decoder.items() if token.special
        }
        self.end_ids = end_ids(checkpoint.generation) or frozenset({tokenizer.eos_token_id})

    def info(self, model: str) -> EngineInfo:
        """What can be had of it, under the name that clients see."""
        return EngineInfo(
            model=model,
            context_tokens=self.checkpoint.context_tokens,
            device=self.checkpoint.device_name,
            max_audio_s=MAX_AUDIO_S,
            modes=frozenset({"voice_chat", "audio_analysis", "text"}),
        )

    def start(self, request: Generate, audio: dict[str, Int16Array]) -> Generation:
        """A reply to `request`, whose prompt's audio is in `audio` by digest."""
        return Generation(self, request, audio)

    def warm_up(self) -> None:
        """Answer a second of silence, so that no first reply waits for what happens only once."""
        silence = AudioPart.of(np.zeros(SAMPLE_RATE_HZ, np.int16))
        prompt = Prompt((Message("warm-up", "user", (silence,)),))
        options = ReplyOptions(max_output_tokens=2)
        request = Generate(0, 0, prompt, options, side=True, asked_s=time.monotonic())
        generation = self.start(request, {silence.digest: silence.samples})
        while not any(isinstance(event, Finished) for event in generation.step()):
            pass


class Generation:
    """A reply. Call `step` until its events end with Finished."""

    def __init__(
        self, generator: Generator, request: Generate, audio: dict[str, Int16Array]
    ) -> None:
        self._generator = generator
        self._request = request
        self._audio = audio
        self._cache = KeyValueCache(generator.checkpoint)
        self._text = TextStream(generator.tokenizer, generator.special_ids)
        self._prompt = TokenCount()
        self._ids = torch.empty((1, 0), dtype=torch.int64)
        """The whole sequence, prompt and reply, with room for all that may follow: (1, n)."""
        self._length = 0
        self._tokens = 0
        self._prefill_ms = 0.0
        self._first_token_ms = 0.0
        self.committed = not request.options.speculative

    @property
    def session_id(self) -> int:
        """The conversation that it belongs to."""
        return self._request.session_id

    @property
    def waits(self) -> bool:
        """Whether it has run ahead of its turn's end as far as it may."""
        return not self.committed and self._tokens >= self._generator.settings.decode_ahead_tokens

    @torch.inference_mode()
    def step(self) -> list[ReplyEvent]:
        """Decode one token; the first step takes in the prompt before that.

        Raises EngineError where the prompt can't be answered.
        """
        events: list[ReplyEvent] = []
        if self._length == 0:
            logits = self._prefill()
            events.append(Started(PrefillReport(self._prompt, reused=TokenCount())))
        else:
            logits = self._cache.feed(self._ids[:, self._length - 1 : self._length], {})
        token = self._generator.sampler.choose(self._ids[:, : self._length], logits)
        # Only now: a GPU computes on until somebody looks at the result.
        self._prefill_ms = self._prefill_ms or self._elapsed_ms()
        if token in self._generator.end_ids:
            return [*events, self._finished("stop")]
        self._ids[0, self._length] = token
        self._length += 1
        self._tokens += 1
        if text := self._text.push(token):
            self._first_token_ms = self._first_token_ms or self._elapsed_ms()
            events.append(text)
        if self._length == self._ids.shape[1]:
            events.append(self._finished("length"))
        return events

    def _prefill(self) -> torch.Tensor:
        checkpoint = self._generator.checkpoint
        prompt = self._generator.renderer.render(self._request.prompt, self._audio)
        self._prompt = prompt.count
        self._length = len(prompt.ids)
        room = checkpoint.context_tokens - self._length
        if room <= 0:
            raise EngineError(
                f"The conversation takes {self._length} tokens, and the model's context holds "
                f"{checkpoint.context_tokens}. Delete old items, or start a new conversation."
            )
        wanted = self._request.options.max_output_tokens
        room = min(room, wanted or self._generator.settings.max_output_tokens)
        self._ids = torch.zeros((1, self._length + room), dtype=torch.int64)
        self._ids[0, : self._length] = torch.tensor(prompt.ids)
        self._ids = self._ids.to(checkpoint.device)
        features = checkpoint.audio_features(list(prompt.audio))
        return self._cache.feed(self._ids[:, : self._length], features)

    def _finished(self, reason: Literal["stop", "length"]) -> Finished:
        usage = Usage(input=self._prompt, cached=TokenCount(), output_tokens=self._tokens)
        total_ms = self._elapsed_ms()
        first_token_ms = self._first_token_ms or total_ms
        return Finished(reason, usage, Timings(self._prefill_ms, first_token_ms, total_ms))

    def _elapsed_ms(self) -> float:
        return (time.monotonic() - self._request.asked_s) * 1000
