"""Audio packets from a network: back in order, and their time without holes. Pure.

RTP numbers packets (modulo 2^16) and stamps each with the position of its first sample.
"""

from __future__ import annotations

from typing import Generic, TypeVar

from audio_io.continuity import STALL_MS

T = TypeVar("T")

_NUMBERS = 1 << 16

MAX_WAITING = 2
"""Packets that wait for a missing one before it counts as lost. One lets no neighbours change
places; each more delays what follows a loss by another packet, which is 20 ms."""

MAX_LATE = 100
"""Packets by which one may be late; further back, the sender has started anew. As in aiortc."""


class ReorderBuffer(Generic[T]):
    """Puts packets in order, giving each back as soon as it may.

    Every packet that is added gives back at most one, so that once a packet was waited for, what
    follows stays MAX_WAITING - 1 packets late. Audio needs no more: each packet is a whole frame.
    """

    def __init__(self) -> None:
        self._next: int | None = None
        self._waiting: dict[int, T] = {}

    def add(self, number: int, packet: T) -> T | None:
        """Take the packet with this sequence number; returns the one that is due, if any.

        One that comes after its place was given up, or comes again, is dropped.
        """
        if self._next is None:
            self._next = number
        if self._ahead(number) >= _NUMBERS - MAX_LATE:
            return None
        if self._ahead(number) >= _NUMBERS // 2:
            self._waiting.clear()
            self._next = number
        self._waiting[number] = packet
        if self._next not in self._waiting and len(self._waiting) >= MAX_WAITING:
            self._next = min(self._waiting, key=self._ahead)
        due = self._waiting.pop(self._next, None)
        if due is not None:
            self._next = (self._next + 1) % _NUMBERS
        return due

    def _ahead(self, number: int) -> int:
        assert self._next is not None
        return (number - self._next) % _NUMBERS


class Timeline:
    """Finds the holes between pieces of decoded audio by their timestamps."""

    def __init__(self) -> None:
        self._end: int | None = None

    def missing_samples(self, timestamp: int, n_samples: int, sample_rate_hz: int) -> int:
        """How many samples of silence to put before this piece, which lasts `n_samples`.

        `timestamp` is in samples. A hole counts for STALL_MS at most: what is longer is a sender
        that had stopped, and time has gone on by the clock from then (audio_io/continuity.py). A
        jump backwards is a new beginning.
        """
        expected, self._end = self._end, timestamp + n_samples
        if expected is None:
            return 0
        return min(max(0, timestamp - expected), sample_rate_hz * STALL_MS // 1000)
