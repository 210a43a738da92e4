"""One stream from a sound device: what its callbacks bring, until it ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from audio_io.handover import Handover
from audio_io.pcm import Int16Array, pcm16_from_bytes

BLOCK_MS = 20
"""At 10 ms nothing is gained: with busy threads beside it, the callback is up to 80 ms late."""
MAX_PENDING_BLOCKS = 200
"""4 s; the event loop has been seen to stall for 300 ms, and an older turn is over."""
MAX_OVERFLOW_MS = 5_000
"""By the device's clock, which may have been set in between, an overflow can't have lost more."""

_BYTES_PER_SAMPLE = 2


class Recording:
    """Samples of one stream on their way to the event loop, with silence for those that are lost.

    To be made on the loop that takes from it.
    """

    def __init__(self, sample_rate_hz: int) -> None:
        self.sample_rate_hz = sample_rate_hz
        self.close: Callable[[], None] = lambda: None
        """Ends the stream; set by who opens it."""
        self._handover = Handover(MAX_PENDING_BLOCKS)
        self._replaced_bytes = 0
        self._overflowed_samples = 0
        self._due_s: float | None = None

    @property
    def block_samples(self) -> int:
        """How many samples the device is to give at a time."""
        return self.sample_rate_hz * BLOCK_MS // 1000

    @property
    def lost_ms(self) -> int:
        """How much of the sound was replaced by silence so far."""
        samples = self._replaced_bytes // _BYTES_PER_SAMPLE + self._overflowed_samples
        return samples * 1000 // self.sample_rate_hz

    @property
    def pending(self) -> bool:
        """Whether there is something to take."""
        return self._handover.pending

    async def take(self) -> Int16Array:
        """What has come since the last time, int16 (n,); empty once the stream has ended.

        What wasn't taken in time has been dropped, the oldest first: silence stands for it.
        """
        data = await self._handover.take()
        dropped = self._handover.dropped_bytes - self._replaced_bytes
        self._replaced_bytes += dropped
        return pcm16_from_bytes(bytes(dropped) + data)

    def on_block(self, block: Any, n_samples: int, times: Any, status: Any) -> None:
        """A block from PortAudio, in its thread."""
        # Which must never wait: copy and hand over, nothing else.
        silence = b""
        if status.input_overflow:
            lost = self._lost_before(times.inputBufferAdcTime, n_samples)
            self._overflowed_samples += lost
            silence = bytes(lost * _BYTES_PER_SAMPLE)
        self._due_s = times.inputBufferAdcTime + n_samples / self.sample_rate_hz
        self._handover.put(silence + bytes(block))

    def on_end(self) -> None:
        """No more will come; called in PortAudio's thread too."""
        self._handover.close()

    def _lost_before(self, start_s: float, n_samples: int) -> int:
        """How much an overflow has lost: by the device's clock, but a block at least."""
        gap_s = start_s - self._due_s if self._due_s is not None else 0.0
        most = MAX_OVERFLOW_MS * self.sample_rate_hz // 1000
        return min(max(round(gap_s * self.sample_rate_hz), n_samples), most)
