"""The person's turn while it is being heard: what of it has come in. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from assistant.prompt import AudioPart, Message
from audio_io.pcm import SAMPLES_PER_MS
from audio_io.speech_events import Utterance


class OpenTurn:
    """The turn that the next speech belongs to; it may still be empty."""

    def __init__(self, new_id: Callable[[str], str]) -> None:
        self._new_id = new_id
        self._id: str | None = None
        self._parts: list[AudioPart] = []
        self.start_sample = 0
        """Where its audio begins; has a meaning only once speech has started."""
        self.last: Utterance | None = None
        """Its last part, if the pause that it is in is its end."""

    @property
    def id(self) -> str:
        """Of the item that the turn will be; taken when it is first asked for."""
        if self._id is None:
            self._id = self._new_id("item")
        return self._id

    @property
    def is_empty(self) -> bool:
        """Whether none of its audio has been handed over yet."""
        return not self._parts

    def owns(self, item_id: str) -> bool:
        """Whether the id is the turn's, so that no other item may have it."""
        return item_id == self._id

    def add(self, part: Utterance) -> None:
        """A part of it is complete; more follows."""
        self._parts.append(AudioPart.of(part.samples))

    def message(self, last: Utterance | None = None) -> Message:
        """The turn so far, with `last` as its newest part."""
        parts = [*self._parts, *([AudioPart.of(last.samples)] if last else [])]
        return Message(self.id, "user", tuple(parts))

    def take(self, last: Utterance | None) -> Message:
        """The turn, with `last` as its newest part; what comes next belongs to another."""
        message = self.message(last)
        self.start_over()
        return message

    def start_over(self) -> None:
        """The turn is forgotten: what comes next belongs to another."""
        self._id, self._parts, self.last = None, [], None

    # What clients are told of it.

    def started(self) -> dict[str, Any]:
        """It has begun."""
        return {
            "type": "input_audio_buffer.speech_started",
            "audio_start_ms": self.start_sample // SAMPLES_PER_MS,
            "item_id": self.id,
        }

    def stopped(self, end_sample: int) -> dict[str, Any]:
        """It is over, and its audio ends there."""
        return {
            "type": "input_audio_buffer.speech_stopped",
            "audio_end_ms": end_sample // SAMPLES_PER_MS,
            "item_id": self.id,
        }

    def timed_out(self, silence: Utterance | None) -> dict[str, Any]:
        """It has not begun, for too long: all that was heard is `silence`; None: nothing was."""
        start = silence.start_sample if silence else self.start_sample
        end = silence.end_sample if silence else start
        return {
            "type": "input_audio_buffer.timeout_triggered",
            "audio_start_ms": start // SAMPLES_PER_MS,
            "audio_end_ms": end // SAMPLES_PER_MS,
            "item_id": self.id,
        }
