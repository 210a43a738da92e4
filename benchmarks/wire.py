"""What the wire adds: manual commit sent to first delta received, against the engine in process.

    python -m benchmarks.wire [--turns 200]

Each turn says the same new audio to two sessions of the embedded engine, without speech
recognition, whose time would drown the rest: one behind the server (a process of its own, loopback
websocket), one called directly. The audio has been sent before the clock starts, as it would have
been while the person was still speaking. The difference, turn by turn, is what the server and the
wire cost.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import time

import numpy as np
from websockets.asyncio.client import ClientConnection, connect

from assistant.engines.embedded import EmbeddedEngine, EmbeddedSettings
from assistant.engines.engine import ModelSession, ReplyOptions, Text
from assistant.prompt import AudioPart, Message, Prompt
from audio_io.pcm import SAMPLE_RATE_HZ, Int16Array
from benchmarks.machine import machine, median_and_p95
from benchmarks.server import server

WARM_UP_TURNS = 5
CONFIG = "model: {embedded: {words: false}}"


def utterance(seed: int) -> Int16Array:
    """1 s of a hum with noise, new for every seed so that nothing is served from a cache."""
    time_s = np.arange(SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
    noise = np.random.default_rng(seed).normal(0, 300, SAMPLE_RATE_HZ)
    return (8000 * np.sin(2 * np.pi * 140 * time_s) + noise).astype(np.int16)


async def over_the_wire(websocket: ClientConnection, samples: Int16Array) -> float:
    """ms from commit to first delta."""

    async def send(type_: str, **fields: str) -> None:
        await websocket.send(json.dumps({"type": type_, **fields}))

    async def sees(type_: str) -> None:
        async for message in websocket:
            event = json.loads(message)
            if event["type"] == type_:
                return
            if event["type"] == "error":
                raise RuntimeError(event["error"]["message"])

    audio = base64.b64encode(samples.tobytes()).decode()
    await send("input_audio_buffer.append", audio=audio)
    # Answered in order, so the audio has been heard when this is.
    await send("session.update", session={})  # type: ignore[arg-type]
    await sees("session.updated")
    start = time.perf_counter()
    await send("input_audio_buffer.commit")
    await send("response.create")
    await sees("response.output_text.delta")
    elapsed_ms = (time.perf_counter() - start) * 1000
    await send("response.cancel")
    await sees("response.done")
    return elapsed_ms


async def in_process(session: ModelSession, said: list[Message], samples: Int16Array) -> float:
    """ms from the same call that the server makes to the first text."""
    start = time.perf_counter()
    said.append(Message(f"item_{len(said)}", "user", (AudioPart.of(samples),)))
    reply = session.reply(Prompt(tuple(said)), ReplyOptions())
    async for event in reply:
        if isinstance(event, Text):
            break
    elapsed_ms = (time.perf_counter() - start) * 1000
    await reply.cancel()
    return elapsed_ms


async def measure(turns: int) -> tuple[list[float], list[float]]:
    """ms per turn, over the wire and in process; the two take turns, so that both meet the same
    moods of the machine."""
    engine = EmbeddedEngine(EmbeddedSettings(words=False))
    await engine.start()
    session = await engine.open_session()
    said: list[Message] = []
    wire_ms, engine_ms = [], []
    input_ = {"turn_detection": None, "format": {"type": "audio/pcm", "rate": SAMPLE_RATE_HZ}}
    update = {"type": "session.update", "session": {"audio": {"input": input_}}}
    async with server(CONFIG) as address, connect(f"ws://{address}/v1/realtime") as websocket:
        await websocket.send(json.dumps(update))
        for turn in range(WARM_UP_TURNS + turns):
            samples = utterance(turn)
            wire_ms.append(await over_the_wire(websocket, samples))
            engine_ms.append(await in_process(session, said, samples))
    await session.close()
    await engine.close()
    return wire_ms[WARM_UP_TURNS:], engine_ms[WARM_UP_TURNS:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=200)
    turns = parser.parse_args().turns
    wire_ms, engine_ms = asyncio.run(measure(turns))
    added_ms = [wire - engine for wire, engine in zip(wire_ms, engine_ms, strict=True)]
    print(f"wire: commit to first delta, {turns} turns, {machine()}")
    for name, values in (
        ("over the websocket", wire_ms),
        ("engine in process", engine_ms),
        ("added by the wire", added_ms),
    ):
        median, p95 = median_and_p95(values)
        print(f"  {name:<20} median {median:6.2f} ms   p95 {p95:6.2f} ms")
    ratio = median_and_p95(wire_ms)[0] / median_and_p95(engine_ms)[0]
    print(f"  over the websocket / in process, medians: {ratio:.2f}")


if __name__ == "__main__":
    main()
