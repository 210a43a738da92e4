"""One connection to a remote peer over aiortc, from the moment its offer is answered.

It ends when either side closes it, when the client has not connected within CONNECT_TIMEOUT_S, or
when the client has vanished: that shows within 32 s, by the consent checks of ICE (RFC 7675).
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Generic, TypeVar

import numpy as np
from aiortc import RTCDataChannel, RTCPeerConnection
from av import AudioFrame

from audio_io.errors import PeerError
from audio_io.pcm import Int16Array
from audio_io.rtp import Timeline

logger = logging.getLogger(__name__)

T = TypeVar("T")

CONNECT_TIMEOUT_S = 10
"""From the answer until the connection, and the data channel if one was offered, must be open. Who
can connect does so within 1 s or a few, and until then takes up a place for nothing."""

MAX_UNSENT_BYTES = 64 * 1024
"""A text is handed over only when no more than this is unsent before it."""

MAX_WAITING_AUDIO_S = 5
"""Audio that is kept for a consumer who doesn't come for it; the oldest goes first."""

MAX_WAITING_BYTES = 4 * 1024 * 1024
"""Of memory for messages not yet taken. Nothing slows a sender down, so one who is this far ahead
is disconnected. A single message takes up to 1 MB: our answers allow 256 kB of UTF-8."""


class _Mailbox(Generic[T]):
    """A queue with an end: iterating gives what is in it and what comes, then stops."""

    def __init__(self, size_of: Callable[[T], int]) -> None:
        self.size = 0
        self._size_of = size_of
        self._items: deque[T] = deque()
        self._ended = False
        self._changed = asyncio.Event()

    def put(self, item: T) -> None:
        self._items.append(item)
        self.size += self._size_of(item)
        self._changed.set()

    def take(self) -> T:
        item = self._items.popleft()
        self.size -= self._size_of(item)
        return item

    def end(self) -> None:
        self._ended = True
        self._changed.set()

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    async def __anext__(self) -> T:
        while not self._items:
            if self._ended:
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()
        return self.take()


class RtcPeer:
    """A `Peer` on an aiortc connection, whoever negotiates it and feeds it with `hear`."""

    def __init__(
        self, connection: RTCPeerConnection, *, data_channel: str | None, id: str | None = None
    ) -> None:
        """`data_channel` is the label of the channel for text; None takes any."""
        self.id = id or secrets.token_urlsafe(16)
        self.dropped_samples = 0
        """Of audio that nobody came for in time."""
        self.taken = asyncio.Event()
        """Set once somebody wants to hear or read what it sends."""
        self._connection = connection
        self._label = data_channel
        self._channel: RTCDataChannel | None = None
        self._channel_offered = False
        self._may_send = asyncio.Event()
        self._sending = asyncio.Lock()
        self._timeline = Timeline()
        self._audio: _Mailbox[tuple[Int16Array, int]] = _Mailbox(lambda piece: len(piece[0]))
        self._messages: _Mailbox[str] = _Mailbox(sys.getsizeof)
        self._gone = asyncio.Event()
        self._deadline: asyncio.TimerHandle | None = None
        self._closing: asyncio.Task[None] | None = None

    @property
    def takes_text(self) -> bool:
        """As `Peer.takes_text`: whether the offer had a data channel."""
        return self._channel_offered

    def audio(self) -> AsyncIterator[tuple[Int16Array, int]]:
        """As `Peer.audio`; samples are (n, channels), and what nobody takes in time is dropped."""
        self.taken.set()
        return self._audio

    def messages(self) -> AsyncIterator[str]:
        """As `Peer.messages`; bytes that are no UTF-8 come with replacement characters."""
        self.taken.set()
        return self._messages

    async def send(self, text: str) -> None:
        """As `Peer.send`. Where the offer has no data channel, `text` is dropped."""
        async with self._sending:
            while not self._gone.is_set() and self._channel_offered:
                channel = self._channel
                if (
                    channel is not None
                    and channel.readyState == "open"
                    and channel.bufferedAmount <= MAX_UNSENT_BYTES
                ):
                    try:
                        channel.send(text)
                    except ValueError as error:
                        raise PeerError(str(error)) from error
                    return
                self._may_send.clear()
                await self._may_send.wait()
            if self._gone.is_set():
                raise ConnectionError("The peer is gone.")

    async def close(self) -> None:
        """As `Peer.close`."""
        # A task of its own, because aiortc's close must not be cancelled half way.
        await asyncio.shield(self._begin_close())

    async def wait_closed(self) -> None:
        """As `Peer.wait_closed`."""
        await self._gone.wait()

    def opened(self, *, channel_offered: bool) -> None:
        """Called once the offer is answered, before the client has the answer."""
        self._channel_offered = channel_offered
        self._connection.on("connectionstatechange", self._on_state)
        self._connection.on("datachannel", self._on_channel)
        self._deadline = asyncio.get_running_loop().call_later(CONNECT_TIMEOUT_S, self._on_deadline)

    def hear(self, frame: AudioFrame) -> None:
        """Take decoded audio, packed int16 of any rate and number of channels."""
        channels, rate = frame.layout.nb_channels, frame.sample_rate
        samples = frame.to_ndarray().astype(np.int16, copy=False).reshape(-1, channels)
        if frame.pts is not None:
            missing = self._timeline.missing_samples(frame.pts, len(samples), rate)
            if missing:
                self._audio.put((np.zeros((missing, channels), np.int16), rate))
        self._audio.put((samples, rate))
        while self._audio.size > MAX_WAITING_AUDIO_S * rate:
            if not self.dropped_samples:
                logger.warning("peer %s: nobody takes its audio, dropping the oldest", self.id)
            self.dropped_samples += len(self._audio.take()[0])

    async def _release(self) -> None:
        await self._connection.close()

    def _begin_close(self) -> asyncio.Task[None]:
        if self._closing is None:
            self._gone.set()
            self._may_send.set()
            self._audio.end()
            self._messages.end()
            if self._deadline is not None:
                self._deadline.cancel()
            self._closing = asyncio.create_task(self._release(), name=f"close peer {self.id}")
        return self._closing

    def _on_state(self) -> None:
        if self._connection.connectionState in ("failed", "closed"):
            self._begin_close()

    def _on_deadline(self) -> None:
        connected = self._connection.connectionState == "connected"
        if not connected or (self._channel_offered and self._channel is None):
            missing = f"data channel {self._label or ''}".strip() if connected else "connection"
            logger.info("peer %s: no %s within %d s", self.id, missing, CONNECT_TIMEOUT_S)
            self._begin_close()

    def _on_channel(self, channel: RTCDataChannel) -> None:
        if self._label not in (None, channel.label):
            channel.close()
            return
        # Drops FastRTC's listener, which sends every message back, without any bound.
        channel.remove_all_listeners("message")
        channel.on("message", self._on_message)
        channel.on("close", self._may_send.set)
        channel.on("bufferedamountlow", self._may_send.set)
        channel.bufferedAmountLowThreshold = MAX_UNSENT_BYTES
        self._channel = channel
        self._may_send.set()

    def _on_message(self, message: str | bytes) -> None:
        text = message if isinstance(message, str) else message.decode(errors="replace")
        self._messages.put(text)
        if self._messages.size > MAX_WAITING_BYTES:
            logger.warning("peer %s: sends faster than its messages are read, closing", self.id)
            self._begin_close()
