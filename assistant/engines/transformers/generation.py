"""One reply in the making, a step at a time."""

from __future__ import annotations

import time
from collections.abc import Generator as Steps
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Literal

import numpy as np

from assistant.engines.engine import (
    EngineInfo,
    Finished,
    PrefillReport,
    ReplyOptions,
    Started,
    Timings,
    Usage,
)
from assistant.engines.transformers.budget import make_memory
from assistant.engines.transformers.decode_step import DecodeStep
from assistant.engines.transformers.decoding import NO_TOKEN, Choices, Sampler, TextStream
from assistant.engines.transformers.fast_steps import fast_steps
from assistant.engines.transformers.hearing import Hearing
from assistant.engines.transformers.memory import Conversation, Memory
from assistant.engines.transformers.memory_plan import MAX_CONVERSATIONS, TURN_S
from assistant.engines.transformers.messages import Generate
from assistant.engines.transformers.model import Checkpoint
from assistant.engines.transformers.models.architecture import end_ids
from assistant.engines.transformers.opening import Opening
from assistant.engines.transformers.prefill import Events, Prefill
from assistant.engines.transformers.prompt import MAX_AUDIO_S, PromptRenderer
from assistant.engines.transformers.settings import TransformersSettings
from assistant.engines.transformers.slots import Slot
from assistant.errors import EngineError, PromptTooLongError
from assistant.prompt import AudioPart, Message, Prompt
from audio_io.pcm import SAMPLE_RATE_HZ


class Generator:
    """Starts replies with one checkpoint."""

    def __init__(self, checkpoint: Checkpoint, settings: TransformersSettings) -> None:
        """Raises EngineError where there is too little memory for conversations."""
        self.checkpoint = checkpoint
        self.settings = settings
        self.memory: Memory = make_memory(checkpoint, settings)
        self.decode_step: DecodeStep | None = None
        """What takes the steps in place of the pool itself, where that is faster."""
        self.renderer = PromptRenderer(checkpoint)
        self.hearing = Hearing(checkpoint)
        self.sampler = Sampler(checkpoint, settings)
        tokenizer = checkpoint.tokenizer
        self.tokenizer = tokenizer.backend_tokenizer
        self.special_ids = frozenset(tokenizer.all_special_ids) | {
            id_ for id_, token in tokenizer.added_tokens_decoder.items() if token.special
        }
        self.end_ids = end_ids(checkpoint.generation) or frozenset({tokenizer.eos_token_id})

    def info(self, model: str) -> EngineInfo:
        """What can be had of it, under the name that clients see."""
        told = self.memory.pool.plan.report(self.checkpoint.audio_tokens(TURN_S * SAMPLE_RATE_HZ))
        return EngineInfo(
            model=model,
            context_tokens=self.memory.tokens_per_slot,
            device=f"{self.checkpoint.device_name}, which keeps {told}",
            max_audio_s=MAX_AUDIO_S,
            tools=self.renderer.functions.form is not None,
            transcribes=self.checkpoint.architecture.transcription("") is not None,
            modes=self.checkpoint.modes,
        )

    def textless_ids(self, prompt: Prompt) -> frozenset[int]:
        """The tokens that are kept out of a reply to it: all control tokens but those of calls."""
        return self.special_ids - self.renderer.call_ids if prompt.tools else self.special_ids

    def start(self, request: Generate, conversation: Conversation) -> Generation:
        """A reply to `request`, whose prompt's audio `conversation` holds."""
        return Generation(self, request, conversation)

    @property
    def most_together(self) -> int:
        """How many replies may take a step together."""
        return self.decode_step.most if self.decode_step else MAX_CONVERSATIONS

    def tokens_after(self, generations: Sequence[Generation]) -> list[int]:
        """Feed the last tokens of replies whose prompts are in, all in one forward.

        Takes `most_together` at most. Returns what each goes on with, for its `take`. Where it
        fails, no reply has gone on.
        """
        going = [(*each.going, each.hears) for each in generations if each.going]
        slots, tokens, choices, hears = zip(*going, strict=True)
        lengths = [slot.length for slot in slots]
        try:
            step = self.decode_step or self.memory.pool
            return self.sampler.choose(choices, step.logits_after(slots, tokens, hears))
        except Exception:
            for slot, length in zip(slots, lengths, strict=True):
                slot.cut(length)
            raise

    def warm_up(self) -> None:
        """Answer a second of silence, so that no first reply waits for what happens only once."""
        silence = AudioPart.of(np.zeros(SAMPLE_RATE_HZ, np.int16))
        conversation = Conversation({silence.digest: silence.samples})
        prompt = Prompt((Message("warm-up", "user", (silence,)),))
        options = ReplyOptions(max_output_tokens=2)
        request = Generate(0, 0, prompt, options, side=True, asked_s=time.monotonic())
        generation = self.start(request, conversation)
        while not generation.done:
            generation.step()
        generation.close()
        if self.checkpoint.device.type == "cuda":
            pool = self.memory.pool
            self.decode_step = fast_steps(self.checkpoint, pool, self.settings.steps)


class Generation:
    """A reply. Call `step` until it is done, and `close` in any case."""

    def __init__(self, generator: Generator, request: Generate, conversation: Conversation) -> None:
        self._generator = generator
        self._request = request
        self._conversation = conversation
        self._text = TextStream(generator.tokenizer, generator.textless_ids(request.prompt))
        self._prompt = generator.renderer.render(
            request.prompt, conversation.samples, request.options.transcribe
        )
        self._sounds = generator.hearing.of(conversation, self._prompt)
        self._steps = self._run()
        self._tokens = 0
        self.going: tuple[Slot, int, Choices] | None = None
        """What its next token follows: its last one, into which slot that goes, and how the next
        is chosen; None until the prompt is in."""
        self.request_id = request.request_id
        """Of what asked for it."""
        self.hears = self._prompt.hears
        """Whether its prompt has audio."""
        self.committed = not request.options.speculative
        self.begun = False
        """Whether it has its room, which nobody else can have until it is closed."""
        self.done = False
        """Whether the last step was its last."""

    @property
    def session_id(self) -> int:
        """The conversation that it belongs to."""
        return self._request.session_id

    @property
    def waits(self) -> bool:
        """Whether it has run ahead of its turn's end as far as it may."""
        return not self.committed and self._tokens >= self._generator.settings.decode_ahead_tokens

    @property
    def blocked(self) -> bool:
        """Whether there is no room for it to begin in just now."""
        return not self.begun and not self._generator.memory.has_room(self.most_tokens)

    def step(self) -> Events:
        """Go on by a bounded part of the prompt or, once that is in, by a token.

        Raises EngineError where the prompt can't be answered.
        """
        if not self.going:
            self.begun = True
            return self._steps.send(None)
        try:
            (token,) = self._generator.tokens_after([self])
        except Exception as error:
            return self._steps.throw(error)
        return self.take(token)

    def take(self, token: int) -> Events:
        """Go on with a token of `Generator.tokens_after`, in place of `step`."""
        return self._steps.send(token)

    def close(self) -> None:
        """Let go of what it holds, but for what the conversation keeps."""
        self._steps.close()
        self._sounds.close()

    def _run(self) -> Steps[Events, int | None, None]:
        room = self._room()
        with self._slot() as slot:
            try:
                yield from self._answer(slot, room)
            except Exception:
                # Whatever has happened: nothing is to be built upon it.
                slot.cut(0)
                raise

    def _slot(self) -> AbstractContextManager[Slot]:
        memory = self._generator.memory
        take = memory.side_slot if self._request.side else memory.slot
        return take(self._conversation, self._prompt.units, self.most_tokens)

    def _answer(self, slot: Slot, room: int) -> Steps[Events, int | None, None]:
        generator, prompt = self._generator, self._prompt
        held = slot.length
        kept = slot.keep(prompt.units)
        reused = prompt.count_of(kept)
        prefill = Prefill(generator.checkpoint, prompt, self._sounds)
        hidden = yield from prefill.steps(slot, generator.settings.prefill_chunk_tokens)
        events: Events = [Started(PrefillReport(prompt.count, reused, held - kept))]
        clock = _Clock(self._request.asked_s)

        def finished(reason: Literal["stop", "length"]) -> Finished:
            self.done = True
            usage = Usage(prompt.count, reused, self._tokens)
            return Finished(reason, usage, clock.timings())

        choices = generator.sampler.for_a_reply(prompt.ids, self._request.options.temperature)
        choices.opening = Opening(generator.renderer.openings(self._request.prompt))
        (token,) = generator.sampler.choose([choices], generator.checkpoint.logits(hidden))
        while self._tokens < room:
            if token == NO_TOKEN:
                raise EngineError("The model's computation broke down: its logits are no numbers.")
            # Only now: a GPU computes on until somebody looks at the result.
            clock.prompt_is_in()
            if token in generator.end_ids:
                yield [*events, finished("stop")]
                return
            self._tokens += 1
            if text := self._text.push(token):
                clock.text_is_there()
                events.append(text)
            if self._tokens < room:
                self.going = slot, token, choices
                given = yield events
                assert given is not None
                token, events = given, []
        yield [*events, finished("length")]

    def _room(self) -> int:
        """How many tokens the reply may have. Raises PromptTooLongError where that is none."""
        context, used = self._generator.memory.tokens_per_slot, len(self._prompt.ids)
        if used >= context:
            count = self._prompt.count
            raise PromptTooLongError(
                f"The conversation takes {used} tokens, and the model's context holds {context}. "
                "Start a new one.",
                text_tokens=count.text,
                audio_tokens=count.audio,
            )
        return self.most_tokens - used

    @property
    def most_tokens(self) -> int:
        """How many tokens it may come to take, with its prompt."""
        wanted = self._request.options.max_output_tokens
        if wanted is None:
            wanted = self._generator.settings.max_output_tokens
        return min(self._generator.memory.tokens_per_slot, len(self._prompt.ids) + wanted)


class _Clock:
    """When a reply came how far, from `asked_s` on, in s of the monotonic clock."""

    def __init__(self, asked_s: float) -> None:
        self._asked_s = asked_s
        self._prompt_ms = 0.0
        self._text_ms = 0.0

    def prompt_is_in(self) -> None:
        self._prompt_ms = self._prompt_ms or self._elapsed_ms()

    def text_is_there(self) -> None:
        self._text_ms = self._text_ms or self._elapsed_ms()

    def timings(self) -> Timings:
        total_ms = self._elapsed_ms()
        return Timings(self._prompt_ms or total_ms, self._text_ms or total_ms, total_ms)

    def _elapsed_ms(self) -> float:
        return (time.monotonic() - self._asked_s) * 1000
