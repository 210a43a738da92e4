"""The Realtime protocol over WebRTC: audio in by RTP, events by data channel and websocket."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from typing import Any

from assistant.config import Config
from assistant.errors import AssistantError
from assistant.realtime.live import LiveSession
from assistant.realtime.registry import SessionRegistry
from assistant.realtime.sink import EventSink, SlowClientError
from assistant.tasks import race
from audio_io.errors import PeerError, UnreachableError
from audio_io.peer import Peer
from audio_io.webrtc import WebRtcPeer

logger = logging.getLogger(__name__)


class Calls:
    """Answers offers; each call lives in a task of its own until its peer is gone."""

    def __init__(self, registry: SessionRegistry, config: Config, group: asyncio.TaskGroup) -> None:
        self._registry = registry
        self._limits = config.limits
        self._ice_servers = config.webrtc.ice_servers
        self._group = group
        self._tasks: set[asyncio.Task[None]] = set()
        self._peers: dict[str, Peer] = {}

    async def answer(self, offer: str, *wishes: dict[str, Any]) -> tuple[str, str]:
        """Take a call: returns its id and the SDP answer. `wishes`: as `SessionRegistry.open`.

        Raises PeerError for an offer that is none, UnreachableError where no client could find its
        way here, what `SessionRegistry.open` raises, and whatever else goes wrong until then.
        """
        answered: asyncio.Future[tuple[str, str]] = asyncio.get_running_loop().create_future()
        task = self._group.create_task(self._call(offer, wishes, answered), name="call")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await answered

    async def serve(self, peer: Peer, *wishes: dict[str, Any]) -> None:
        """Hold a conversation with a peer that is answered elsewhere, until it is gone.

        Raises ConnectionRefusedError where there is no place for another.
        """
        try:
            async with self._registry.open(*wishes, session_id=peer.id) as live:
                await self._converse(peer, live)
        except AssistantError as error:
            raise ConnectionRefusedError(str(error)) from error

    async def hang_up(self, call_id: str) -> bool:
        """End a call, and return once its connection is released; False where there is none."""
        if (peer := self._peers.get(call_id)) is None:
            return False
        await peer.close()
        return True

    def close(self) -> None:
        """Hang up on everyone."""
        for task in self._tasks:
            task.cancel()

    async def _call(
        self,
        offer: str,
        wishes: tuple[dict[str, Any], ...],
        answered: asyncio.Future[tuple[str, str]],
    ) -> None:
        try:
            async with self._registry.open(*wishes) as live:
                peer = WebRtcPeer(ice_servers=self._ice_servers)
                try:
                    sdp = await peer.answer(offer)
                except (PeerError, UnreachableError) as error:
                    if not answered.done():
                        answered.set_exception(error)
                    return
                if answered.cancelled():  # The client went before the answer was ready.
                    await peer.close()
                    return
                answered.set_result((live.id, sdp))
                await self._converse(peer, live)
        except AssistantError as error:
            if not answered.done():
                answered.set_exception(error)
        except Exception as error:
            if answered.done():
                logger.exception("a call failed")
            else:
                answered.set_exception(error)
        finally:
            answered.cancel()

    async def _converse(self, peer: Peer, live: LiveSession) -> None:
        async def send(event: str) -> None:
            try:
                await peer.send(event)
            except PeerError as error:
                logger.warning("%s: an event was left out: %s", live.id, error)

        sink = EventSink(
            send,
            max_events=self._limits.max_pending_events,
            timeout_s=self._limits.send_timeout_s,
        )
        # The caller's alone, since two sources would be heard as one garbled stream.
        live.takes_appends = False
        self._peers[live.id] = peer
        try:
            # Text that nobody takes is not delivered: a caller without a data channel reads beside.
            with live.attach(sink) if peer.takes_text else nullcontext():
                await race(
                    audio=_hear(peer, live),
                    messages=_receive(peer, live, sink),
                    send=sink.run(),
                    closed=live.closed(sink),
                )
        except SlowClientError as slow:
            logger.warning("%s: the client %s", live.id, slow)
        except ConnectionError:
            pass  # The peer went while an event was on its way.
        finally:
            del self._peers[live.id]
            await peer.close()


async def _hear(peer: Peer, live: LiveSession) -> None:
    async for samples, sample_rate_hz in peer.audio():
        await live.hear(samples, sample_rate_hz)


async def _receive(peer: Peer, live: LiveSession, sink: EventSink) -> None:
    async for message in peer.messages():
        await sink.room()
        await live.receive(message)


@asynccontextmanager
async def open_calls(registry: SessionRegistry, config: Config) -> AsyncIterator[Calls]:
    """Take calls for as long as the context is open."""
    async with asyncio.TaskGroup() as group:
        calls = Calls(registry, config, group)
        try:
            yield calls
        finally:
            calls.close()
