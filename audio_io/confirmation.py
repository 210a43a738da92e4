"""When a turn holds more speech than a cough does. Pure."""

from __future__ import annotations

from audio_io.endpointer import Endpointer, Pause, Resume, Start, Stop, Transition
from audio_io.pcm import SAMPLES_PER_MS


class Confirmation:
    """Tells, once in a turn, when its speech has lasted for `confirm_ms`, pauses left out."""

    def __init__(self) -> None:
        self._enough_at: int | None = None
        """Where speech has lasted long enough if it doesn't pause; None: there is none to wait
        for."""
        self._pause_start = 0

    def push(self, transitions: list[Transition], endpointer: Endpointer) -> bool:
        """Whether the window that `endpointer` took last, with these transitions, is the one."""
        confirm_ms = endpointer.detection.confirm_ms
        for transition in transitions:
            match transition:
                case Start(speech_start) if confirm_ms is not None:
                    self._enough_at = speech_start + confirm_ms * SAMPLES_PER_MS
                case Pause(speech_end):
                    self._pause_start = speech_end
                case Resume(at_sample) if self._enough_at is not None:
                    self._enough_at += at_sample - self._pause_start
                case Stop():
                    self._enough_at = None
                case _:
                    pass
        if self._enough_at is None or endpointer.speech_end_sample < self._enough_at:
            return False
        self._enough_at = None
        return True
