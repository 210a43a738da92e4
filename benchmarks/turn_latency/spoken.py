"""The conversation that all are asked to hold."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from assistant.prompt import AudioPart, Message, Prompt
from audio_io.pcm import SAMPLE_RATE_HZ

SPEECH_S = 2.0
REPLY_TOKENS = 24


@lru_cache
def utterance(seed: int, duration_s: float = SPEECH_S) -> AudioPart:
    """Noise, another for every seed: what is heard changes nothing about the time."""
    noise = np.random.default_rng(seed).normal(0, 3000, round(duration_s * SAMPLE_RATE_HZ))
    return AudioPart.of(noise.astype(np.int16))


class Spoken:
    """A conversation that grows by a spoken turn and its reply at a time."""

    def __init__(self, first_seed: int = 0) -> None:
        self._said: list[Message] = []
        self._seed = first_seed

    def ask(self, duration_s: float = SPEECH_S) -> Prompt:
        """The prompt once one more turn has been spoken."""
        turn = Message(f"user_{self._seed}", "user", (utterance(self._seed, duration_s),))
        self._seed += 1
        self._said.append(turn)
        return Prompt(tuple(self._said))

    def answer(self, reply: Message) -> None:
        """What was replied."""
        self._said.append(reply)
