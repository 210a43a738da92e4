"""Test vocabulary: a client of the openai package, unmodified."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import soxr
from openai import AsyncOpenAI
from openai.resources.realtime.realtime import AsyncRealtimeConnection

from assistant.config import Config
from assistant.engines.engine import Engine
from audio_io.pcm import SAMPLE_RATE_HZ, Int16Array
from tests.server import serving
from tests.watch import Watch


class Conversation:
    """One client of the SDK: speaks, types, and keeps every event it gets."""

    def __init__(self, connection: AsyncRealtimeConnection) -> None:
        self._connection = connection
        self._watch = Watch()
        self._rate_hz = 24_000
        self.events: list[dict[str, Any]] = []

    async def send(self, **event: Any) -> None:
        await self._connection.send(event)  # type: ignore[arg-type]

    async def hears(self, **input_: Any) -> None:
        """Change how the server hears us: fields of the session's `audio.input`."""
        session = {"type": "realtime", "audio": {"input": input_}}
        await self.send(type="session.update", session=session)
        rate_hz = input_.get("format", {}).get("rate")
        self._rate_hz = rate_hz or self._rate_hz

    async def says(self, samples: Int16Array, chunk_ms: int = 40) -> None:
        """Send 16 kHz samples at the rate that was agreed, in chunks, as fast as they are taken."""
        sound = self._at_agreed_rate(samples)
        step = self._rate_hz * chunk_ms // 1000
        for start in range(0, len(sound), step):
            audio = _base64(sound[start : start + step])
            await self._connection.input_audio_buffer.append(audio=audio)

    async def types(self, text: str, *, about: Int16Array | None = None, **response: Any) -> None:
        """Ask in writing, also about 16 kHz samples; `response`: settings of this one."""
        content = [{"type": "input_text", "text": text}]
        if about is not None:
            content.insert(
                0, {"type": "input_audio", "audio": _base64(self._at_agreed_rate(about))}
            )
        item = {"type": "message", "role": "user", "content": content}
        await self.send(type="conversation.item.create", item=item)
        await self.send(type="response.create", response=response)

    async def sees(self, type_: str) -> dict[str, Any]:
        """Read on until an event of that type."""
        while True:
            event = json.loads(await self._connection.recv_bytes())
            self._watch.sees(event)
            self.events.append(event)
            if event["type"] == type_:
                return event

    async def reply(self) -> str:
        """Read on to the end of the next reply: its text."""
        done = await self.sees("response.done")
        (item,) = done["response"]["output"]
        return item["content"][0]["text"]

    def _at_agreed_rate(self, samples: Int16Array) -> Int16Array:
        if self._rate_hz == SAMPLE_RATE_HZ:
            return samples
        return soxr.resample(samples, SAMPLE_RATE_HZ, self._rate_hz)


def _base64(samples: Int16Array) -> str:
    return base64.b64encode(samples.tobytes()).decode()


@asynccontextmanager
async def conversation(
    config: Config | None = None, engine: Engine | None = None, **client: Any
) -> AsyncIterator[Conversation]:
    """A conversation with a server of its own."""
    async with serving(config, engine) as address, connected(address, **client) as conversation:
        yield conversation


@asynccontextmanager
async def connected(address: str, **client: Any) -> AsyncIterator[Conversation]:
    """A conversation with the server at that address."""
    options = {"api_key": "none", "base_url": f"http://{address}/v1", **client}
    async with (
        AsyncOpenAI(websocket_base_url=f"ws://{address}/v1", **options) as sdk,
        sdk.realtime.connect(model="any") as connection,
    ):
        yield Conversation(connection)
