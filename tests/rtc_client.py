"""A WebRTC client without a browser: speaks what it is given, and keeps the messages it gets."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection
from fractions import Fraction

import numpy as np
from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCPeerConnection,
    RTCSessionDescription,
)
from aiortc.mediastreams import MediaStreamError
from av import AudioFrame

from audio_io.pcm import SAMPLE_RATE_HZ, Int16Array

FRAME_SAMPLES = SAMPLE_RATE_HZ // 50
"""20 ms: one packet."""


class RtcClient:
    """Connects to whatever answers its offer.

    `real_time` sends a frame every 20 ms, as a microphone would; otherwise they go out as fast as
    they can be encoded. `lost` are the packets, counted from 0, that the network loses, and
    `swapped` those that it delivers after the one that follows.
    """

    def __init__(
        self,
        *,
        data_channel: str | None = "oai-events",
        real_time: bool = False,
        lost: Collection[int] = (),
        swapped: Collection[int] = (),
    ) -> None:
        self.connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.messages: asyncio.Queue[str] = asyncio.Queue()
        self.closed = asyncio.Event()
        self.packets_sent = 0
        """Of audio, the lost ones included."""
        self._connected = asyncio.Event()
        self._speech = _Speech(real_time)
        self._lost = lost
        self._swapped = swapped
        self._held: list[bytes] = []
        self._channel_open = asyncio.Event()
        self.connection.addTrack(self._speech)
        self.connection.on("connectionstatechange", self._on_state)
        self.channel = data_channel and self.connection.createDataChannel(data_channel)
        if self.channel:
            self.channel.on("open", self._channel_open.set)
            self.channel.on("message", self.messages.put_nowait)

    async def offer(self, *, candidates: bool = True) -> str:
        """The SDP to post; a browser's, posted before it has gathered, has no candidates."""
        await self.connection.setLocalDescription()
        lines = self.connection.localDescription.sdp.splitlines(keepends=True)
        hidden = () if candidates else ("a=candidate", "a=end-of-candidates")
        return "".join(line for line in lines if not line.startswith(hidden))

    async def accept(self, answer_sdp: str) -> None:
        """Take the answer, and wait until connected and the data channel is open."""
        await self.connection.setRemoteDescription(RTCSessionDescription(answer_sdp, "answer"))
        self._impair_network()
        await self._connected.wait()
        if self.channel:
            await self._channel_open.wait()

    async def connect(self, answer: Callable[[str], Awaitable[str]]) -> None:
        """Post the offer through `answer`, which returns the SDP of the answer, and connect."""
        await self.accept(await answer(await self.offer()))

    async def say(self, samples: Int16Array) -> None:
        """Send int16 (n,), 16 kHz mono, filled up to whole frames; returns when it is sent."""
        await self._speech.say(samples)

    def skip(self, duration_ms: int) -> None:
        """Send nothing for so long, at once: only timestamps show it."""
        self._speech.skip(duration_ms)

    def send(self, text: str | bytes) -> None:
        """Send a message."""
        self.channel.send(text)

    async def close(self) -> None:
        """Hang up properly."""
        await self.connection.close()

    def vanish(self) -> None:
        """Send and receive nothing from now on, not even a farewell, like a machine gone dark."""
        for transport in {t.receiver.transport for t in self.connection.getTransceivers()}:
            for protocol in transport.transport._connection._protocols:
                protocol.transport.abort()

    def _on_state(self) -> None:
        if self.connection.connectionState == "connected":
            self._connected.set()
        elif self.connection.connectionState in ("failed", "closed"):
            self.closed.set()

    def _impair_network(self) -> None:
        transport = self.connection.getSenders()[0].transport
        send = transport._send_rtp

        async def impaired(packet: bytes) -> None:
            if 192 <= packet[1] <= 223:  # RTCP (RFC 5761)
                return await send(packet)
            number, self.packets_sent = self.packets_sent, self.packets_sent + 1
            if number in self._lost:
                return
            if number in self._swapped:
                self._held.append(packet)
                return
            await send(packet)
            while self._held:
                await send(self._held.pop(0))

        transport._send_rtp = impaired


class _Speech(MediaStreamTrack):
    kind = "audio"

    def __init__(self, real_time: bool) -> None:
        super().__init__()
        self._real_time = real_time
        self._frames: asyncio.Queue[AudioFrame] = asyncio.Queue()
        self._pts = 0
        self._started_s: float | None = None
        self._in_flight = False

    async def say(self, samples: Int16Array) -> None:
        padded = np.pad(samples, (0, -len(samples) % FRAME_SAMPLES))
        for start in range(0, len(padded), FRAME_SAMPLES):
            frame = AudioFrame.from_ndarray(
                padded[None, start : start + FRAME_SAMPLES], format="s16", layout="mono"
            )
            frame.sample_rate = SAMPLE_RATE_HZ
            frame.time_base = Fraction(1, SAMPLE_RATE_HZ)
            frame.pts = self._pts
            self._pts += FRAME_SAMPLES
            self._frames.put_nowait(frame)
        await self._frames.join()

    def skip(self, duration_ms: int) -> None:
        self._pts += duration_ms * SAMPLE_RATE_HZ // 1000

    async def recv(self) -> AudioFrame:
        if self.readyState != "live":
            raise MediaStreamError
        # Asked for the next one, aiortc has sent the last.
        if self._in_flight:
            self._frames.task_done()
        frame = await self._frames.get()
        self._in_flight = True
        if self._real_time:
            now_s = time.monotonic() - frame.pts / SAMPLE_RATE_HZ
            self._started_s = now_s if self._started_s is None else self._started_s
            await asyncio.sleep(self._started_s - now_s)
        return frame
