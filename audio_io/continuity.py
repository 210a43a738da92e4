"""Audio that stops coming must not leave a turn open: silence takes its place. Pure."""

from __future__ import annotations

from audio_io.pcm import SAMPLES_PER_MS

STALL_MS = 200
"""How late a chunk may be before the stream counts as stopped; networks are often 100 ms late."""
MOST_AHEAD_MS = 1_000
"""A client that sends a whole recording at once isn't waited for until it would have ended."""
STEP_MS = 50
"""How much silence is waited for before it is fed."""


class AudioClock:
    """Tells how much silence is due, by when audio came and what time it is.

    In a stream in real time, audio is followed by more when its own length has passed, whether it
    came as 20 ms, as half a second, or as a second's worth of small chunks at once. The stream is
    stalled STALL_MS after that; from then on silence is due at wall-clock rate, until audio comes
    again. Times are in ms of one monotonic clock.
    """

    def __init__(self) -> None:
        self._due_ms = 0
        self._silent_from_ms: int | None = None

    @property
    def next_check_ms(self) -> int | None:
        """When to ask `missing` again, unless audio arrives first; None: not before it does."""
        return None if self._silent_from_ms is None else self._silent_from_ms + STEP_MS

    def arrived(self, n_samples: int, sample_rate_hz: int, now_ms: int) -> None:
        """Audio came: `n_samples` per channel."""
        if n_samples:
            due_ms = max(self._due_ms, now_ms) + n_samples * 1000 // sample_rate_hz
            self._due_ms = min(due_ms, now_ms + MOST_AHEAD_MS)
            self._silent_from_ms = self._due_ms + STALL_MS

    def missing(self, now_ms: int) -> int:
        """How many samples of silence, at 16 kHz, must be fed now; they count as fed."""
        if self._silent_from_ms is None or now_ms <= self._silent_from_ms:
            return 0
        silent_ms = now_ms - self._silent_from_ms
        self._silent_from_ms = now_ms
        return silent_ms * SAMPLES_PER_MS
