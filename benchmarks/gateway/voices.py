"""What the clients say: human speech and silence in turn, so that half of them speak at any time.

The voices are Debian's Asterisk prompts, joined to SPEECH_S of speech, then as much of a quiet
room. A turn ends in each silence, and its reply takes most of the rest of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import av
import numpy as np

from audio_io.pcm import SAMPLE_RATE_HZ, Int16Array
from tests.speech import at_rate, join, noise_floor, prompt, prompt_names, silence

SPEECH_S = 4
PERIOD_S = 2 * SPEECH_S
VOICES = 16
FLOOR_DBFS = -60.0
OPUS_MS = 20
# Spreads the clients over the period, however many there are.
GOLDEN = 0.618034


def voices() -> list[Int16Array]:
    """PERIOD_S each, int16 (n,), 16 kHz mono; the same every time."""
    chosen = np.random.default_rng(0).permutation(prompt_names())
    names = iter(map(str, chosen))
    return [_voice(names) for _ in range(VOICES)]


def _voice(names: Iterator[str]) -> Int16Array:
    speech = silence(0)
    while len(speech) < SPEECH_S * SAMPLE_RATE_HZ:
        speech = join(speech, prompt(next(names)))
    whole = join(speech[: SPEECH_S * SAMPLE_RATE_HZ], silence((PERIOD_S - SPEECH_S) * 1000))
    return noise_floor(whole, FLOOR_DBFS)


def starting_chunk(client: int, chunks: int) -> int:
    """Where in its voice a client begins."""
    return int(client * GOLDEN % 1 * chunks)


def pcm_chunks(voice: Int16Array, sample_rate_hz: int, chunk_ms: int) -> list[bytes]:
    """The voice as clients of the websocket send it."""
    sound = at_rate(voice, sample_rate_hz)
    step = sample_rate_hz * chunk_ms // 1000
    return [sound[start : start + step].tobytes() for start in range(0, len(sound), step)]


def opus_packets(voice: Int16Array) -> list[bytes]:
    """The voice as browsers send it, 20 ms each."""
    encoder = av.CodecContext.create("libopus", "w")
    assert isinstance(encoder, av.AudioCodecContext)
    encoder.sample_rate, encoder.layout, encoder.format = 48_000, "mono", "s16"
    encoder.bit_rate = 32_000
    encoder.time_base = Fraction(1, 48_000)
    packets = []
    sound = at_rate(voice, 48_000)
    step = 48 * OPUS_MS
    for start in range(0, len(sound), step):
        frame = av.AudioFrame.from_ndarray(sound[None, start : start + step], "s16", "mono")
        frame.sample_rate, frame.pts = 48_000, start
        packets += [bytes(packet) for packet in encoder.encode(frame)]
    return packets
