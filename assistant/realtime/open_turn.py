"""The person's turn while it is being heard: what of it has come in. Pure."""

from __future__ import annotations

from collections.abc import Callable

from assistant.conversation import AudioPart, Message
from audio_io.segmenter import Utterance


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

    def start_over(self) -> None:
        """The turn is a message now, or forgotten: what comes next belongs to another."""
        self._id, self._parts, self.last = None, [], None
