"""What was heard in each audio: measured and recognised once, in a thread of its own."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from assistant.conversation import AudioPart
from assistant.engines.embedded.sound import Sound, measure
from audio_io.pcm import Int16Array

MAX_REMEMBERED = 1024
"""Audios whose measures are kept, a few hundred bytes each."""


@dataclass(frozen=True, slots=True)
class Words:
    """What a recogniser made of an audio."""

    request: str | None
    """The words of a request that it is sure of."""
    transcript: str
    """Its best guess at any words; rough."""


@dataclass(frozen=True, slots=True)
class Heard:
    """All that is known of one audio."""

    sound: Sound
    words: Words | None
    """None where no recogniser is installed, or there is no voice to recognise."""


Recognizer = Callable[[Int16Array], Words]


class Ears:
    """Listens to audios one at a time, off the event loop, and remembers what it heard.

    A recogniser is one decoder, which only one thread may use.
    """

    def __init__(self, load_recognizer: Callable[[], Recognizer | None]) -> None:
        self._load_recognizer = load_recognizer
        self._recognize: Recognizer | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ears")
        self._heard: OrderedDict[str, Heard] = OrderedDict()

    async def open(self) -> None:
        """Load the recogniser, which takes half a second."""
        loop = asyncio.get_running_loop()
        self._recognize = await loop.run_in_executor(self._thread, self._load_recognizer)

    async def hear(self, audio: AudioPart) -> Heard:
        """What is in `audio`. Cancelling waits for nothing; the result is then remembered."""
        heard = self._heard.get(audio.digest)
        if heard is None:
            loop = asyncio.get_running_loop()
            heard = await loop.run_in_executor(self._thread, self._listen, audio)
        self._heard.move_to_end(audio.digest)
        return heard

    def close(self) -> None:
        """End the thread; what still waits for it is not done."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _listen(self, audio: AudioPart) -> Heard:
        sound = measure(audio.samples)
        has_voice = sound.pitch_hz is not None
        words = self._recognize(audio.samples) if self._recognize and has_voice else None
        heard = self._heard[audio.digest] = Heard(sound, words)
        while len(self._heard) > MAX_REMEMBERED:
            self._heard.popitem(last=False)
        return heard
