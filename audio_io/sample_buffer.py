"""The newest samples of a stream, found by their position in it."""

from __future__ import annotations

import numpy as np

from audio_io.pcm import SAMPLE_RATE_HZ, Int16Array

_SMALLEST_CAPACITY = 4 * SAMPLE_RATE_HZ


class SampleBuffer:
    """Grows at its end and is trimmed at its start, both in constant time (amortised).

    Takes at most twice the memory of the samples that it has ever held at once.
    """

    def __init__(self) -> None:
        self._data = np.empty(_SMALLEST_CAPACITY, dtype=np.int16)
        self._held = slice(0, 0)
        self.end = 0
        """Position in the stream after the newest sample."""

    @property
    def start(self) -> int:
        """Position in the stream of the oldest sample held."""
        return self.end - (self._held.stop - self._held.start)

    def append(self, samples: Int16Array) -> None:
        """Hold a copy of `samples`, int16 (n,), as what comes next in the stream."""
        if self._held.stop + len(samples) > len(self._data):
            self._make_room(len(samples))
        stop = self._held.stop + len(samples)
        self._data[self._held.stop : stop] = samples
        self._held = slice(self._held.start, stop)
        self.end += len(samples)

    def view(self, start: int, end: int) -> Int16Array:
        """The samples from position `start` to `end`, not copied: good until the next append."""
        if not self.start <= start <= end <= self.end:
            raise IndexError(f"{start} to {end} isn't within {self.start} to {self.end}")
        offset = self._held.start - self.start
        return self._data[start + offset : end + offset]

    def forget_before(self, position: int) -> None:
        """Hold only what comes at `position` or later."""
        forgotten = min(max(position, self.start), self.end) - self.start
        self._held = slice(self._held.start + forgotten, self._held.stop)

    def skip_to(self, position: int) -> None:
        """Hold nothing; what is appended next comes at `position`."""
        self._held = slice(0, 0)
        self.end = position

    def _make_room(self, count: int) -> None:
        held = self._data[self._held]
        needed = len(held) + count
        # Moved to the front of the same memory only when half of it becomes free by that, so that
        # it isn't moved again soon.
        if needed > len(self._data) // 2:
            self._data = np.empty(2 * needed, dtype=np.int16)
        self._data[: len(held)] = held
        self._held = slice(0, len(held))
