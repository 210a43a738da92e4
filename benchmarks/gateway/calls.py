"""Clients over WebRTC: Opus in packets of 20 ms, in real time."""

from __future__ import annotations

import asyncio
import json
import time
from fractions import Fraction

import av
import httpx
from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCPeerConnection,
    RTCSessionDescription,
)

from benchmarks.gateway.voices import OPUS_MS, VOICES, opus_packets, starting_chunk, voices

SAMPLES = 48 * OPUS_MS


class CallLoad:
    """Any number of callers that speak."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._packets = [opus_packets(voice) for voice in voices()]
        self._speaking = asyncio.Event()
        self.clients: list[Caller] = []

    @property
    def latest_ms(self) -> float:
        """How late we were at most."""
        return max(caller.track.latest_ms for caller in self.clients)

    async def connect(self, count: int) -> None:
        """Let there be so many callers, the new ones silent until `speak`."""
        async with httpx.AsyncClient(base_url=f"http://{self._address}", timeout=30) as http:
            for number in range(len(self.clients), count):
                track = Voice(self._packets[number % VOICES], number, self._speaking)
                caller = Caller(track)
                await caller.connect(http)
                self.clients.append(caller)

    async def speak(self) -> None:
        """Let all callers send, until cancelled."""
        self._speaking.set()
        await asyncio.Event().wait()

    async def close(self) -> None:
        await asyncio.gather(*(caller.close() for caller in self.clients))


class Voice(MediaStreamTrack):
    """Gives out packets that are encoded already, as fast as they are spoken."""

    kind = "audio"

    def __init__(self, packets: list[bytes], number: int, speaking: asyncio.Event) -> None:
        super().__init__()
        self._packets = packets
        self._next = starting_chunk(number, len(packets))
        self._phase_s = number % OPUS_MS / 1000
        self._speaking = speaking
        self._begun_s: float | None = None
        self._sent = 0
        self.latest_ms = 0.0

    async def recv(self) -> av.Packet:
        await self._speaking.wait()
        if self._begun_s is None:
            self._begun_s = time.perf_counter() + self._phase_s
        due_s = self._begun_s + self._sent * OPUS_MS / 1000
        await asyncio.sleep(due_s - time.perf_counter())
        self.latest_ms = max(self.latest_ms, (time.perf_counter() - due_s) * 1000)
        packet = av.Packet(self._packets[self._next])
        packet.pts, packet.time_base = self._sent * SAMPLES, Fraction(1, 48_000)
        self._next = (self._next + 1) % len(self._packets)
        self._sent += 1
        return packet


class Caller:
    """One conversation."""

    def __init__(self, track: Voice) -> None:
        self.track = track
        self.tokens = 0
        self._connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self._connection.addTrack(track)
        self._channel = self._connection.createDataChannel("oai-events")
        self._channel.on("message", self._on_message)
        self._answered = asyncio.Event()

    async def connect(self, http: httpx.AsyncClient) -> None:
        opened = asyncio.Event()
        self._channel.on("open", opened.set)
        await self._connection.setLocalDescription()
        answer = await http.post(
            "/v1/realtime/calls",
            content=self._connection.localDescription.sdp,
            headers={"Content-Type": "application/sdp"},
        )
        answer.raise_for_status()
        description = RTCSessionDescription(answer.text, "answer")
        await self._connection.setRemoteDescription(description)
        await opened.wait()

    async def answer_s(self) -> float:
        """How long an event waits for its answer."""
        self._answered.clear()
        asked_s = time.perf_counter()
        self._channel.send(json.dumps({"type": "session.update", "session": {}}))
        await self._answered.wait()
        return time.perf_counter() - asked_s

    async def close(self) -> None:
        await self._connection.close()

    def _on_message(self, event: str) -> None:
        if '"response.output_text.delta"' in event:
            self.tokens += 1
        elif '"session.updated"' in event:
            self._answered.set()
        elif '"type":"error"' in event:
            raise RuntimeError(event)
