"""Samples in, speech events out: resampler, voice activity detector and endpointer in one feed().

The endpointer decides when somebody speaks; this decides which samples are handed over for it.
Positions count 16 kHz samples since the stream began, across changes of rate, `clear` and
whatever else. The events are the same for every chunking of the same audio.

What is handed over:
- With turn detection, from before the first window of speech (`prefix_padding_ms`, 450 at least:
  at 400, one onset in 40 is clipped) until TAIL_MS after the last. The utterance of a PauseBegan is
  the same as that of the SpeechStopped after it, unless speech resumes in between.
- Without, all that was heard, when `flush` asks for it.
- No sample twice, and at most MAX_PART_S at once: what is longer is cut at a quiet place near the
  end of that time, and handed over in a PartEnded.

Memory is bounded: MAX_PART_S of samples and, in a turn, the longest silence that doesn't end it
(10 s), twice for the buffer's slack: 2.6 MB, where no single feed is long.
"""

from __future__ import annotations

from collections import deque
from typing import assert_never

from audio_io.confirmation import Confirmation
from audio_io.cutting import quietest_sample
from audio_io.endpointer import (
    MAX_TURN_S,
    Endpointer,
    Pause,
    Resume,
    Start,
    Stop,
    Transition,
    TurnDetection,
)
from audio_io.pcm import SAMPLE_RATE_HZ, SAMPLES_PER_MS, Int16Array
from audio_io.resampling import Resampler
from audio_io.sample_buffer import SampleBuffer
from audio_io.silero import WINDOW_SAMPLES
from audio_io.speech_events import (
    AudioDropped,
    PartEnded,
    PauseBegan,
    SpeechConfirmed,
    SpeechEvent,
    SpeechResumed,
    SpeechStarted,
    SpeechStopped,
    Utterance,
)
from audio_io.vad import VoiceActivityDetector

MAX_PART_S = 30.0
"""The models take no more audio at once, and drop the rest without a word."""
MIN_UTTERANCE_MS = 100
"""The models, and the protocol's commit, take no less."""
TAIL_MS = 200
"""Kept after the last window of speech: the true end comes up to 112 ms later (95%)."""
MIN_PREFIX_MS = 450

_MAX_PART_SAMPLES = round(MAX_PART_S * SAMPLE_RATE_HZ)
_MIN_UTTERANCE_SAMPLES = MIN_UTTERANCE_MS * SAMPLES_PER_MS
_TAIL_SAMPLES = TAIL_MS * SAMPLES_PER_MS

# Of 47 cuts in speech with gaps of 80 to 250 ms, half as many fell within a word with 5 s to choose
# from as with 3 s.
_CUT_SEARCH_SAMPLES = 5 * SAMPLE_RATE_HZ
_REMEMBERED_WINDOWS = 16 * SAMPLE_RATE_HZ // WINDOW_SAMPLES
"""The 5 s in which a part is cut, and 10 s of silence before speech resumed and showed the need."""


_DEFAULT_DETECTION = TurnDetection()


class SpeechSegmenter:
    """Hears one stream of audio. Without `detection`, turns end only by `flush`."""

    def __init__(
        self,
        detector: VoiceActivityDetector,
        detection: TurnDetection | None = _DEFAULT_DETECTION,
        *,
        max_turn_s: float = MAX_TURN_S,
    ) -> None:
        """`detector` is this segmenter's alone for as long as it is fed."""
        self._detector = detector
        self._max_turn_s = max_turn_s
        self._buffer = SampleBuffer()
        self._endpointer = self._new_endpointer(detection)
        self._resampler = Resampler(SAMPLE_RATE_HZ)
        self._part_start = 0
        """What comes before was handed over or is forgotten."""
        self._probabilities: deque[float] = deque(maxlen=_REMEMBERED_WINDOWS)
        """The newest windows', up to the endpointer's position."""
        self._confirmation = Confirmation()
        self._manual_limit = round(max_turn_s * SAMPLE_RATE_HZ)
        self._dropped_samples = 0

    @property
    def position_samples(self) -> int:
        """How much has been heard; up to 61 ms of it may not have left the resampler yet."""
        return self._buffer.end + self._dropped_samples

    @property
    def speaking(self) -> bool:
        """Whether a turn is open: after its SpeechStarted, and not over."""
        return self._endpointer is not None and self._endpointer.speaking

    def feed(self, samples: Int16Array, sample_rate_hz: int) -> list[SpeechEvent]:
        """Hear what comes next: int16 (n,), or (n, channels), which are averaged.

        Raises AudioFormatError for a rate that can't be used; nothing has changed then.
        """
        events: list[SpeechEvent] = []
        if sample_rate_hz != self._resampler.source_rate_hz:
            resampler = Resampler(sample_rate_hz)
            events += self._hear(self._resampler.flush())
            self._resampler = resampler
        events += self._hear(self._resampler.feed(samples))
        return events

    def flush(self) -> Utterance | None:
        """Hand over what there is, now: an open turn, otherwise all since the last boundary.

        With turn detection, the newest MAX_PART_S at most while nobody speaks, and the utterance
        of the PauseBegan in a pause. None if it would be under MIN_UTTERANCE_MS; that little is
        kept. The turn is over either way, without an event.
        """
        self._record(self._resampler.flush())
        end = self._buffer.end
        if self._endpointer and self._endpointer.pausing:
            utterance = self._hand_over(self._endpointer.speech_end_sample + _TAIL_SAMPLES)
            self._part_start = end
        else:
            if self._endpointer and not self._endpointer.speaking:
                self._part_start = max(self._part_start, end - _MAX_PART_SAMPLES)
            utterance = self._hand_over(min(end, self._part_start + _MAX_PART_SAMPLES))
        self._start_over(self._detection)
        return utterance

    def clear(self) -> None:
        """Forget the audio that wasn't handed over, and an open turn, without an event."""
        self._record(self._resampler.flush())
        self._part_start = self._buffer.end
        self._start_over(self._detection)

    def configure(self, detection: TurnDetection | None) -> None:
        """Go by other settings from now on; other thresholds leave an open turn open.

        None switches turn detection off: an open turn ends without an event, its audio waits for
        `flush`, and the detector isn't asked any more.
        """
        if self._endpointer and detection:
            self._endpointer.detection = detection
        elif self._endpointer or detection:
            self._detector.reset()
            self._start_over(detection)

    def _start_over(self, detection: TurnDetection | None) -> None:
        """From here on, wait for speech, or for `max_turn_s` of anything."""
        if self._dropped_samples:
            self._buffer.skip_to(self.position_samples)
            self._part_start, self._dropped_samples = self._buffer.end, 0
        self._manual_limit = self._buffer.end + round(self._max_turn_s * SAMPLE_RATE_HZ)
        self._probabilities.clear()
        self._confirmation = Confirmation()
        self._endpointer = self._new_endpointer(detection)

    def _new_endpointer(self, detection: TurnDetection | None) -> Endpointer | None:
        if detection is None:
            return None
        return Endpointer(detection, self._buffer.end, max_turn_s=self._max_turn_s)

    @property
    def _detection(self) -> TurnDetection | None:
        return self._endpointer.detection if self._endpointer else None

    def _hear(self, samples: Int16Array) -> list[SpeechEvent]:
        dropped = self._record(samples)
        if self._endpointer is None:
            events = self._parts_before(self._buffer.end)
            self._buffer.forget_before(self._part_start)
        else:
            events = self._judge(self._endpointer)
            if not self._endpointer.speaking:
                self._part_start = max(self._part_start, self._buffer.end - _MAX_PART_SAMPLES)
            self._buffer.forget_before(min(self._part_start, self._endpointer.position_samples))
        return [*events, *dropped]

    def _record(self, samples: Int16Array) -> list[SpeechEvent]:
        kept = samples if self._endpointer else samples[: self._manual_limit - self._buffer.end]
        self._buffer.append(kept)
        is_first = not self._dropped_samples
        self._dropped_samples += len(samples) - len(kept)
        return [AudioDropped(self._buffer.end)] if is_first and self._dropped_samples else []

    def _judge(self, endpointer: Endpointer) -> list[SpeechEvent]:
        """Take the windows that are complete."""
        events: list[SpeechEvent] = []
        while (end := endpointer.position_samples + WINDOW_SAMPLES) <= self._buffer.end:
            window = self._buffer.view(end - WINDOW_SAMPLES, end)
            probability = self._detector.probability(window)
            self._probabilities.append(probability)
            transitions = endpointer.push(probability)
            for transition in transitions:
                events += self._events_of(transition, endpointer)
            if self._confirmation.push(transitions, endpointer):
                events.append(SpeechConfirmed(endpointer.position_samples))
            if endpointer.speaking:
                events += self._parts_before(endpointer.speech_end_sample + _TAIL_SAMPLES)
        return events

    def _events_of(self, transition: Transition, endpointer: Endpointer) -> list[SpeechEvent]:
        match transition:
            case Start(speech_start):
                prefix_ms = max(MIN_PREFIX_MS, endpointer.detection.prefix_padding_ms)
                prefix_start = speech_start - prefix_ms * SAMPLES_PER_MS
                self._part_start = max(self._part_start, prefix_start)
                return [SpeechStarted(self._part_start)]
            case Pause(speech_end):
                return [PauseBegan(self._utterance(speech_end + _TAIL_SAMPLES), speech_end)]
            case Resume(at_sample):
                return [SpeechResumed(at_sample)]
            case Stop(speech_end):
                # Without a pause before it, the tail may not have been heard.
                decided_at = endpointer.position_samples
                end = min(speech_end + _TAIL_SAMPLES, decided_at)
                parts = self._parts_before(end)
                return [*parts, SpeechStopped(self._hand_over(end), speech_end, decided_at)]
        assert_never(transition)

    def _parts_before(self, end: int) -> list[SpeechEvent]:
        """Cut until what is left before `end` fits into one part."""
        parts: list[SpeechEvent] = []
        while end - self._part_start > _MAX_PART_SAMPLES:
            utterance = self._utterance(self._quiet_place())
            self._part_start = utterance.end_sample
            parts.append(PartEnded(utterance))
        return parts

    def _quiet_place(self) -> int:
        """The position in the last 5 s that a part may take at which a cut hurts least."""
        latest = self._part_start + _MAX_PART_SAMPLES
        earliest = latest - _CUT_SEARCH_SAMPLES
        if self._endpointer is None:
            start, probabilities = earliest, [0.0] * (_CUT_SEARCH_SAMPLES // WINDOW_SAMPLES)
        else:
            judged = len(self._probabilities)
            oldest = self._endpointer.position_samples - judged * WINDOW_SAMPLES
            first = -((oldest - earliest) // WINDOW_SAMPLES)
            last = min((latest - oldest) // WINDOW_SAMPLES, judged)
            start = oldest + first * WINDOW_SAMPLES
            probabilities = list(self._probabilities)[first:last]
        samples = self._buffer.view(start, start + len(probabilities) * WINDOW_SAMPLES)
        return start + quietest_sample(samples, probabilities)

    def _hand_over(self, end: int) -> Utterance | None:
        """The utterance up to `end`, and the next part begins there; None if it is too short."""
        if end - self._part_start < _MIN_UTTERANCE_SAMPLES:
            return None
        utterance = self._utterance(end)
        self._part_start = end
        return utterance

    def _utterance(self, end: int) -> Utterance:
        samples = self._buffer.view(self._part_start, end).copy()
        samples.flags.writeable = False
        return Utterance(samples, self._part_start)
