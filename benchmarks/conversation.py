"""A spoken conversation in real time: last word to first token, as the person meets it.

    python -m benchmarks.conversation

Twenty turns of human speech (Debian's Asterisk prompts) go to a server in a process of its own,
over a websocket, as fast as people speak: fourteen single prompts, and six in which a known pause
of 300 to 700 ms is followed by a phrase (alsa-utils). The model is the tiny Qwen2-Audio with random
weights: turn-taking, protocol and the growth of the conversation are real, the model's own time
isn't. A turn's true end is its last cell of 10 ms within 38 dB of the loud ones.
"""

from __future__ import annotations

import asyncio
import base64
import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from websockets.asyncio.client import ClientConnection, connect

from audio_io.pcm import SAMPLE_RATE_HZ, Int16Array
from benchmarks.hearing.labels import speech_spans
from benchmarks.machine import machine, median_and_p95
from benchmarks.server import server
from tests.speech import join, noise_floor, phrase, prompt, prompt_names, silence
from tests.tiny_models import build_qwen2_audio

TURNS = 20
PAUSES_MS = {3: 300, 6: 400, 9: 500, 12: 600, 15: 700, 18: 300}
"""After how long a turn goes on, by the number of the turn."""
PHRASES = ("Front_Left", "Front_Right", "Rear_Left", "Rear_Right", "Side_Left", "Side_Right")
FLOOR_DBFS = -60.0
CHUNK_MS = 20
CHUNK = SAMPLE_RATE_HZ * CHUNK_MS // 1000
QUIET_MS = 4000
REPLY_TOKENS = 24
CONFIG = f"model: {{transformers: {{device: cpu, max_output_tokens: {REPLY_TOKENS}}}}}"


@dataclass
class Turn:
    """What came of a turn, in s of one clock."""

    ended_s: float = 0.0
    """When its last word had been sent."""
    judged_s: float | None = None
    first_delta_s: float | None = None
    latency: dict[str, str] | None = None
    """What `response.done` tells."""

    @property
    def cut(self) -> bool:
        return self.judged_s is not None and (not self.ended_s or self.judged_s < self.ended_s)


def turns() -> list[tuple[Int16Array, int]]:
    """The turns with the sample at which their speech ends."""
    names = [n for n in prompt_names() if 1.5 <= len(prompt(n)) / SAMPLE_RATE_HZ <= 3.6]
    chosen = np.random.default_rng(0).choice(names, TURNS, replace=False)
    sounds = []
    for number, name in enumerate(map(str, chosen), 1):
        sound = trimmed(prompt(name))
        if number in PAUSES_MS:
            more = trimmed(phrase(PHRASES[len(sounds) % len(PHRASES)]))
            sound = join(sound, silence(PAUSES_MS[number]), more)
        sounds.append((sound, len(sound)))
    return sounds


def trimmed(sound: Int16Array) -> Int16Array:
    """From its first to its last speech."""
    spans = speech_spans(sound.astype(np.float32) / 32_768)
    return sound[spans[0].start : spans[-1].end]


async def speak(websocket: ClientConnection, turn: Turn, sound: Int16Array, end: int) -> None:
    """Send `sound` as fast as it is spoken."""
    begun = time.monotonic()
    for number, start in enumerate(range(0, len(sound), CHUNK)):
        await asyncio.sleep(begun + (number + 1) * CHUNK_MS / 1000 - time.monotonic())
        chunk = sound[start : start + CHUNK]
        audio = base64.b64encode(chunk.tobytes()).decode()
        await websocket.send(json.dumps({"type": "input_audio_buffer.append", "audio": audio}))
        if start < end <= start + CHUNK:
            turn.ended_s = time.monotonic()


async def listen(websocket: ClientConnection, current: list[Turn]) -> None:
    """Note what comes, with the newest turn."""
    async for message in websocket:
        event: dict[str, Any] = json.loads(message)
        turn = current[-1]
        match event["type"]:
            case "input_audio_buffer.speech_stopped" if turn.judged_s is None:
                turn.judged_s = time.monotonic()
            case "response.output_text.delta" if turn.first_delta_s is None:
                turn.first_delta_s = time.monotonic()
            case "response.done" if turn.latency is None:
                turn.latency = event["response"]["metadata"]
            case "error":
                raise RuntimeError(event["error"]["message"])


async def measure() -> list[Turn]:
    """Hold the conversation."""
    results: list[Turn] = [Turn()]
    input_ = {"format": {"type": "audio/pcm", "rate": SAMPLE_RATE_HZ}}
    update = {"type": "session.update", "session": {"audio": {"input": input_}}}
    with tempfile.TemporaryDirectory() as folder:
        model = build_qwen2_audio(Path(folder) / "tiny-qwen2-audio")
        async with (
            server(CONFIG, "--model", str(model)) as address,
            connect(f"ws://{address}/v1/realtime") as websocket,
            asyncio.TaskGroup() as group,
        ):
            listening = group.create_task(listen(websocket, results))
            await websocket.send(json.dumps(update))
            await speak(websocket, results[0], noise_floor(silence(1000), FLOOR_DBFS), 0)
            for sound, end in turns():
                results.append(Turn())
                whole = noise_floor(join(sound, silence(QUIET_MS)), FLOOR_DBFS)
                await speak(websocket, results[-1], whole, end)
            listening.cancel()
    return results[1:]


def report(results: list[Turn]) -> str:
    """The figures, in lines."""
    whole = [turn for turn in results if not turn.cut and turn.first_delta_s is not None]
    waits = [((turn.first_delta_s or 0) - turn.ended_s) * 1000 for turn in whole]
    model_waits = [int((turn.latency or {})["latency.first_token_ms"]) for turn in whole]
    hits = sum((turn.latency or {})["latency.speculation"] == "hit" for turn in whole)
    median, p95 = median_and_p95(waits)
    numbers = [results.index(turn) + 1 for turn in whole]
    slope = np.polyfit(numbers, waits, 1)[0]
    return "\n".join(
        [
            f"conversation: {len(results)} turns, {machine()}",
            f"  last word to first token    median {median:.0f} ms   p95 {p95:.0f} ms",
            f"  of which after the turn was judged over, at most {max(model_waits)} ms",
            f"  turns cut in two            {sum(turn.cut for turn in results)}",
            f"  turns without an answer     {sum(turn.first_delta_s is None for turn in results)}",
            f"  begun in the pause          {hits} of {len(whole)}",
            f"  growth of the wait          {slope:+.1f} ms a turn",
        ]
    )


def main() -> None:
    print(report(asyncio.run(measure())))


if __name__ == "__main__":
    main()
