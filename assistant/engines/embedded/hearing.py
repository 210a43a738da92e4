"""What was heard in each audio: measured and recognised once, off the event loop."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

from assistant.engines.embedded.sound import Sound, measure
from assistant.engines.embedded.words import Words
from assistant.prompt import AudioPart
from audio_io.pcm import SAMPLE_RATE_HZ

MAX_REMEMBERED = 1024
"""Audios of which is remembered what was heard, a few hundred bytes each."""

LONGEST_REQUEST_S = 6.0
"""What lasts longer is no request; seven digits, slowly, take five seconds."""

LEAST_SNR_DB = 18.0
"""In white noise of this strength every third spoken request is taken for another one."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Heard:
    """What is known of one audio soon after it was said."""

    sound: Sound
    request: str | None = None
    """The words of a request, where the recogniser is sure of one."""


class Ears:
    """Listens to audios, and remembers what it heard."""

    def __init__(self, words: Words | None) -> None:
        """`words`: None where no recogniser is installed."""
        self._words = words
        self._heard: OrderedDict[str, Heard] = OrderedDict()
        self._transcripts: OrderedDict[str, str] = OrderedDict()

    @property
    def know_words(self) -> bool:
        return self._words is not None

    async def start(self) -> None:
        """Load the recogniser. Raises EngineError."""
        if self._words:
            await self._words.start()

    async def hear(self, audio: AudioPart) -> Heard:
        """What is in `audio`. Raises EngineError; cancel it to abandon the work."""
        heard = self._heard.get(audio.digest)
        if heard is None:
            sound = await asyncio.to_thread(measure, audio.samples)
            heard = Heard(sound, await self._request(audio, sound))
            _remember(self._heard, audio, heard)
        return heard

    async def transcript(self, audios: Iterable[AudioPart]) -> str:
        """All words in `audios`, roughly; empty without a recogniser or a voice.

        Takes a tenth of the audio's duration and more. Otherwise like `hear`.
        """
        return " ".join([words for audio in audios if (words := await self._transcript(audio))])

    async def close(self) -> None:
        if self._words:
            await self._words.close()

    async def _request(self, audio: AudioPart, sound: Sound) -> str | None:
        noisy = sound.snr_db is not None and sound.snr_db < LEAST_SNR_DB
        long = len(audio.samples) > LONGEST_REQUEST_S * SAMPLE_RATE_HZ
        if self._words is None or sound.pitch_hz is None or noisy or long:
            return None
        return await self._words.request(audio.samples)

    async def _transcript(self, audio: AudioPart) -> str:
        transcript = self._transcripts.get(audio.digest)
        if transcript is None:
            heard = await self.hear(audio)
            if self._words is None or heard.sound.pitch_hz is None:
                return ""
            transcript = await self._words.transcript(audio.samples)
            _remember(self._transcripts, audio, transcript)
        return transcript


def _remember(memory: OrderedDict[str, T], audio: AudioPart, what: T) -> None:
    memory[audio.digest] = what
    if len(memory) > MAX_REMEMBERED:
        memory.popitem(last=False)
