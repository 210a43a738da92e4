"""What the person said, written down by the model that answers it. Pure.

A turn is transcribed beside the conversation, one after the other, and no sooner than its reply has
begun: nobody waits for it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, assert_never

from assistant.conversation import Conversation
from assistant.engines.engine import (
    Finished,
    ReplyEvent,
    ReplyOptions,
    Started,
    Text,
    ToolCall,
    Usage,
)
from assistant.prompt import NO_ID, AudioPart, Message, Prompt, TextPart
from assistant.realtime.effects import CancelReply, Effect, StartReply
from assistant.realtime.response import Event
from assistant.realtime.settings import Transcription
from assistant.realtime.usage import transcription_usage
from audio_io.pcm import SAMPLE_RATE_HZ

MAX_WAITING = 16
"""Turns before the one that is being transcribed; more come only where somebody commits in a loop.
"""
# Fast talkers say 5 words a second, of up to 3 tokens in languages that a tokenizer knows badly.
TOKENS_PER_S, LEAST_TOKENS = 15, 32
INSTRUCTION = "Write down word for word what is said in this audio, and nothing else."


@dataclass(slots=True)
class _Job:
    reply_id: str
    item_id: str
    prompt: Prompt
    options: ReplyOptions
    pieces: list[str] = field(default_factory=list)


class Transcripts:
    """Transcribes turns, and keeps what comes of it with their audio."""

    def __init__(
        self,
        conversation: Conversation,
        *,
        new_id: Callable[[str], str],
        send: Callable[[Event], Effect],
    ) -> None:
        self._conversation = conversation
        self._new_id = new_id
        self._send = send
        self._running: _Job | None = None
        self._waiting: deque[_Job] = deque()

    @property
    def waits(self) -> bool:
        """Whether a turn could be begun with."""
        return self._running is None and bool(self._waiting)

    @property
    def owed(self) -> bool:
        """Whether clients wait for the transcript of a turn that they were promised it of."""
        return self._running is not None or bool(self._waiting)

    def __contains__(self, reply_id: str) -> bool:
        return self._running is not None and self._running.reply_id == reply_id

    def want(self, turn: Message, how: Transcription) -> list[Effect]:
        """Have `turn`, which the conversation holds, transcribed when there is time."""
        audio = [part for part in turn.parts if isinstance(part, AudioPart)]
        if not audio:
            return []
        seconds = sum(len(part.samples) for part in audio) / SAMPLE_RATE_HZ
        asked = Message(NO_ID, "user", (*audio, TextPart(_instruction(how))))
        job = _Job(
            self._new_id("transcript"),
            turn.id,
            Prompt((asked,), task="transcription"),
            ReplyOptions(max_output_tokens=LEAST_TOKENS + round(seconds * TOKENS_PER_S)),
        )
        if len(self._waiting) == MAX_WAITING:
            return [self._failure(job, "Too many turns wait to be transcribed.")]
        self._waiting.append(job)
        return []

    def go_on(self) -> list[Effect]:
        """There is time now: begin with the next turn, if there is one and none is under way."""
        if not self.waits:
            return []
        job = self._running = self._waiting.popleft()
        return [StartReply(job.reply_id, job.prompt, job.options, side=True)]

    def forget(self, item_id: str) -> list[Effect]:
        """The turn is no more: nothing is to be told of it."""
        self._waiting = deque(job for job in self._waiting if job.item_id != item_id)
        if self._running is None or self._running.item_id != item_id:
            return []
        job, self._running = self._running, None
        return [CancelReply(job.reply_id)]

    def generated(self, event: ReplyEvent) -> list[Effect]:
        """The next event of the transcription under way."""
        job = self._running
        assert job is not None
        match event:
            case Started() | ToolCall():
                return []
            case Text():
                job.pieces.append(event.text)
                return [self._event(job, "delta", delta=event.text)]
            case Finished():
                self._running = None
                return [self._completed(job, event.usage)]
            case _:
                assert_never(event)

    def failed(self, reason: str) -> list[Effect]:
        """The model could not go on with it."""
        job, self._running = self._running, None
        assert job is not None
        return [self._failure(job, reason)]

    def _completed(self, job: _Job, usage: Usage) -> Effect:
        transcript = "".join(job.pieces)
        if (turn := self._conversation.get(job.item_id)) is not None:
            first = next(part for part in turn.parts if isinstance(part, AudioPart))
            told = replace(first, transcript=transcript)
            parts = tuple(told if part is first else part for part in turn.parts)
            self._conversation.replace(replace(turn, parts=parts))
        return self._event(
            job, "completed", transcript=transcript, usage=transcription_usage(usage)
        )

    def _failure(self, job: _Job, reason: str) -> Effect:
        error = {"type": "server_error", "code": "model_error", "message": reason, "param": None}
        return self._event(job, "failed", error=error)

    def _event(self, job: _Job, step: str, **fields: Any) -> Effect:
        return self._send(
            {
                "type": f"conversation.item.input_audio_transcription.{step}",
                "item_id": job.item_id,
                "content_index": 0,
                **fields,
            }
        )


def _instruction(how: Transcription) -> str:
    language = f" The language is {how.language!r} (ISO 639-1)." if how.language else ""
    context = f" It may help to know: {how.prompt}" if how.prompt else ""
    return INSTRUCTION + language + context
