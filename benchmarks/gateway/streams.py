"""Clients over the websocket: 24 kHz in chunks, in real time."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
import time

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from benchmarks.gateway.voices import VOICES, pcm_chunks, starting_chunk, voices

RATE_HZ = 24_000
SLOT_MS = 1
_MASKED = 0x80


class WebsocketLoad:
    """Any number of clients that speak. One task sends for all of them, each in its own ms."""

    def __init__(self, address: str, chunk_ms: int) -> None:
        self._address = address
        self._chunk_ms = chunk_ms
        self._frames = [
            [_frame(chunk) for chunk in pcm_chunks(voice, RATE_HZ, chunk_ms)] for voice in voices()
        ]
        self._slots: list[list[Client]] = [[] for _ in range(chunk_ms // SLOT_MS)]
        self.clients: list[Client] = []
        self.latest_ms = 0.0
        """How late we were at most: then it wasn't the server's fault."""

    async def connect(self, count: int) -> None:
        """Let there be so many clients, the new ones silent until `speak`."""
        for number in range(len(self.clients), count):
            client = Client(self._frames[number % VOICES], number)
            await client.connect(f"ws://{self._address}/v1/realtime")
            self.clients.append(client)

    async def speak(self) -> None:
        """Let all clients send, until cancelled."""
        for number, client in enumerate(self.clients):
            self._slots[number % len(self._slots)].append(client)
        begun_s, tick = time.perf_counter(), 0
        while True:
            due_s = begun_s + tick * SLOT_MS / 1000
            if (wait_s := due_s - time.perf_counter()) > 0:
                await asyncio.sleep(wait_s)
            self.latest_ms = max(self.latest_ms, (time.perf_counter() - due_s) * 1000)
            for client in self._slots[tick % len(self._slots)]:
                client.say_next()
            tick += 1
            if not tick % 20:
                await asyncio.sleep(0)

    async def close(self) -> None:
        await asyncio.gather(*(client.close() for client in self.clients))


class Client:
    """One conversation."""

    def __init__(self, frames: list[bytes], number: int) -> None:
        self._frames = frames
        self._next = starting_chunk(number, len(frames))
        self._websocket: ClientConnection
        self._reading: asyncio.Task[None]
        self._answered = asyncio.Event()
        self.tokens = 0

    async def connect(self, url: str) -> None:
        # Nothing that would stop reading, or send of its own.
        self._websocket = await connect(url, compression=None, max_queue=None, ping_interval=None)
        self._reading = asyncio.create_task(self._read())
        await self.answer_s()

    def say_next(self) -> None:
        # Past the library: the frames are the same for many, and were made before.
        self._websocket.transport.write(self._frames[self._next])
        self._next = (self._next + 1) % len(self._frames)

    async def answer_s(self) -> float:
        """How long an event waits for its answer, behind all that was sent before."""
        self._answered.clear()
        asked_s = time.perf_counter()
        await self._websocket.send(json.dumps({"type": "session.update", "session": {}}))
        await self._answered.wait()
        return time.perf_counter() - asked_s

    async def close(self) -> None:
        self._reading.cancel()
        self._websocket.transport.abort()

    async def _read(self) -> None:
        try:
            while True:
                event = await self._websocket.recv(decode=False)
                if b'"response.output_text.delta"' in event:
                    self.tokens += 1
                elif b'"session.updated"' in event:
                    self._answered.set()
                elif b'"type":"error"' in event:
                    raise RuntimeError(event.decode())
        except ConnectionClosed as closed:
            raise RuntimeError(f"the server has closed a connection: {closed}") from closed


def _frame(chunk: bytes) -> bytes:
    """A text frame with an append, masked with zeros (RFC 6455, section 5)."""
    audio = base64.b64encode(chunk).decode()
    text = json.dumps({"type": "input_audio_buffer.append", "audio": audio}).encode()
    return struct.pack("!BBH4x", 0x81, _MASKED | 126, len(text)) + text
