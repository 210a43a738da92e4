"""The law of the pauses within a turn: fixed beforehand, and the same for everyone. Pure.

Every length from 200 to 800 ms is as likely as any other, whoever speaks, wherever, and whatever
came before; so a rule that waits for less than 800 ms cuts people off, and none can learn when.
"""

from __future__ import annotations

import numpy as np

from audio_io.pcm import SAMPLES_PER_MS

SHORTEST_MS, LONGEST_MS = 200, 800


def pause_samples(seed: int, index: int) -> int:
    """How long the `index`-th pause of the set with this seed is."""
    pause_ms = np.random.default_rng([seed, index]).uniform(SHORTEST_MS, LONGEST_MS)
    return round(pause_ms * SAMPLES_PER_MS)
