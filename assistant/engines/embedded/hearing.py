"""What was heard in each audio: measured and recognised once, off the event loop."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass

from assistant.conversation import AudioPart
from assistant.engines.embedded.sound import Sound, measure
from assistant.engines.embedded.words import Words

MAX_REMEMBERED = 1024
"""Audios of which is remembered what was heard, a few hundred bytes each."""


@dataclass(frozen=True, slots=True)
class Heard:
    """All that is known of one audio."""

    sound: Sound
    request: str | None = None
    """The words of a request, where the recogniser is sure of one."""
    transcript: str = ""
    """Otherwise its best guess at any words: rough. Empty without a recogniser or a voice."""


class Ears:
    """Listens to audios, and remembers what it heard."""

    def __init__(self, words: Words | None) -> None:
        """`words`: None where no recogniser is installed."""
        self._words = words
        self._heard: OrderedDict[str, Heard] = OrderedDict()

    async def start(self) -> None:
        """Load the recogniser. Raises EngineError."""
        if self._words:
            await self._words.start()

    async def hear(self, audio: AudioPart) -> Heard:
        """What is in `audio`. Raises EngineError; cancel it to abandon the work."""
        heard = self._heard.get(audio.digest)
        if heard is None:
            heard = self._heard[audio.digest] = await self._listen(audio)
            while len(self._heard) > MAX_REMEMBERED:
                self._heard.popitem(last=False)
        self._heard.move_to_end(audio.digest)
        return heard

    async def close(self) -> None:
        if self._words:
            await self._words.close()

    async def _listen(self, audio: AudioPart) -> Heard:
        sound = await asyncio.to_thread(measure, audio.samples)
        if self._words is None or sound.pitch_hz is None:
            return Heard(sound)
        if request := await self._words.request(audio.samples):
            return Heard(sound, request)
        return Heard(sound, transcript=await self._words.transcript(audio.samples))
