"""What was said: the messages of a conversation, within bounds. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence, Set
from itertools import islice, pairwise
from typing import Literal

from assistant.prompt import AudioPart, Message, TextPart, written_in
from audio_io.pcm import SAMPLE_RATE_HZ

MAX_REMEMBERED = 32
"""Replies known by their pieces: clients cut the one just interrupted, hardly ever an older one."""

TEMPLATE_CHARS = 20
"""What a chat template writes around a message, about: its role, its beginning and its end."""


class SaidReplies:
    """The newest replies in the pieces that they were made of, wherever they are now.

    So what a client leaves of a reply keeps its tokens.
    """

    def __init__(self) -> None:
        self._replies: OrderedDict[str, Sequence[TextPart]] = OrderedDict()

    def remember(self, message_id: str, pieces: Sequence[TextPart]) -> None:
        """The reply with that id was made of `pieces`."""
        self._replies[message_id] = pieces
        if len(self._replies) > MAX_REMEMBERED:
            self._replies.popitem(last=False)

    def parts(self, message_id: str, text: str) -> tuple[TextPart, ...]:
        """`text` with the tokens of the reply of that id, as far as both say the same.

        What follows has none.
        """
        end, ids = 0, list[int]()
        for piece in self._replies.get(message_id, ()):
            if not text.startswith(piece.text, end):
                break
            end += len(piece.text)
            ids += piece.token_ids
        parts = (TextPart(text[:end], tuple(ids)), TextPart(text[end:]))
        return tuple(part for part in parts if part.text)


class Conversation:
    """The messages said so far, in order, within bounds.

    When a bound is passed the oldest messages go, since the newest are what a reply is about.
    """

    def __init__(self, *, max_messages: int, max_audio_s: float, max_text_chars: int) -> None:
        self._messages: dict[str, Message] = {}
        """By id, in their order."""
        self._max_messages = max_messages
        self._max_audio_samples = round(max_audio_s * SAMPLE_RATE_HZ)
        self._max_text_chars = max_text_chars
        # Of all messages, kept up to date: who adds one doesn't wait until all are counted.
        self._audio_samples = 0
        self._text_chars = 0
        self.said = SaidReplies()
        """The newest replies, be they still in here or not."""

    @property
    def written_chars(self) -> int:
        """How much text it is, with what a chat template writes around each message."""
        return sum(map(_written, self._messages.values()))

    def __contains__(self, message_id: str) -> bool:
        return message_id in self._messages

    @property
    def messages(self) -> tuple[Message, ...]:
        return tuple(self._messages.values())

    @property
    def last_id(self) -> str | None:
        """The id of the newest message, if there is one."""
        return next(reversed(self._messages), None)

    def get(self, message_id: str) -> Message | None:
        """The message with that id, if there is one."""
        return self._messages.get(message_id)

    def previous_id(self, message_id: str) -> str | None:
        """The id of the message before the one with that id, if both are there."""
        return next((before for before, id in pairwise(self._messages) if id == message_id), None)

    def add(self, message: Message) -> str | None:
        """Append `message`; returns the id of the one before it, None where it is the first."""
        previous_id = self.last_id
        self._messages[message.id] = message
        self._count(message)
        return previous_id

    def insert(self, message: Message, *, after: str | None) -> str | None:
        """Put `message` behind the one with the id `after`, or first where that is None.

        Returns `after`. Raises KeyError where there is no such message.
        """
        before = [*self._messages.values()]
        index = 0 if after is None else before.index(self._messages[after]) + 1
        self._messages = {each.id: each for each in (*before[:index], message, *before[index:])}
        self._count(message)
        return after

    def replace(self, message: Message) -> None:
        """Put `message` in the place of the one with its id, if that is still there."""
        if message.id in self._messages:
            self._count(self._messages[message.id], -1)
            self._messages[message.id] = message
            self._count(message)

    def delete(self, message_id: str) -> None:
        """Take the message with that id out. Raises KeyError where there is none."""
        self._count(self._messages.pop(message_id), -1)

    def trim(self, *, keep: Set[str] = frozenset()) -> list[str]:
        """Drop the oldest messages until the bounds hold; returns the ids of those that went.

        `keep`: ids of those that stay, whatever else must go.
        """
        excess_messages = len(self._messages) - self._max_messages
        excess_samples = self._audio_samples - self._max_audio_samples
        excess_chars = self._text_chars - self._max_text_chars
        dropped: list[str] = []
        for message in self._but_the_newest():
            if excess_messages <= len(dropped) and excess_samples <= 0 and excess_chars <= 0:
                break
            if message.id not in keep:
                excess_samples -= _samples(message)
                excess_chars -= _held_chars(message)
                dropped.append(message.id)
        self._drop(dropped)
        return dropped

    def shorten(self, *, text_tokens: int, audio_tokens: int, to_tokens: int) -> list[str]:
        """Drop the oldest turns until about `to_tokens` are left; returns the ids of what went.

        `text_tokens` and `audio_tokens` are what all of them take; a message's share is guessed by
        its length. What is left begins with a user's message; system messages that come before
        all others stay.
        """
        per_char = text_tokens / max(1, self.written_chars)
        per_sample = audio_tokens / max(1, self._audio_samples)
        excess = text_tokens + audio_tokens - float(to_tokens)
        dropped: list[str] = []
        leading = True
        for message in self._but_the_newest():
            if excess <= 0 and message.role in ("user", "system"):
                break
            leading = leading and message.role == "system"
            if not leading:
                excess -= per_char * _written(message) + per_sample * _samples(message)
                dropped.append(message.id)
        self._drop(dropped)
        return dropped

    def _but_the_newest(self) -> Iterator[Message]:
        """Those that may go; a single one is bounded where it comes from."""
        return islice(self._messages.values(), max(0, len(self._messages) - 1))

    def _drop(self, ids: Iterable[str]) -> None:
        for message_id in ids:
            self.delete(message_id)

    def _count(self, message: Message, sign: Literal[1, -1] = 1) -> None:
        self._audio_samples += sign * _samples(message)
        self._text_chars += sign * _held_chars(message)


def _samples(message: Message) -> int:
    return sum(len(part.samples) for part in message.parts if isinstance(part, AudioPart))


def _written(message: Message) -> int:
    """How much text a message is, with what a chat template writes around it."""
    return _chars(message) + TEMPLATE_CHARS


def _chars(message: Message) -> int:
    return sum(len(text) for part in message.parts for text in written_in(part))


def _held_chars(message: Message) -> int:
    """All text of a message, be a model told of it or not."""
    transcripts = (part.transcript for part in message.parts if isinstance(part, AudioPart))
    return _chars(message) + sum(map(len, filter(None, transcripts)))
