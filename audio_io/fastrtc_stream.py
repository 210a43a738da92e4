"""FastRTC's clients: its `/webrtc/offer`, and behind it the same peers as for WebRTC.

FastRTC negotiates and holds the connection. A client posts an offer with an id of its own choosing,
then perhaps its ICE candidates under that id, and takes text from the data channel that it opened;
it is given no audio without one, so one is required.

Handled here, as found in FastRTC 0.0.34: it phones home unless told not to, takes seconds to import
and builds a web page, is made for one connection at a time, uses a public STUN server, keys all by
the id that the client chose, sends clients' messages back to them, drops the timestamps of audio,
and leaves tasks waiting when a connection ends early.
"""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import os
import secrets
from collections.abc import Awaitable, Callable, Generator, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, Literal

from av import AudioFrame
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field, ValidationError

from audio_io.errors import AudioError, PeerError, UnreachableError
from audio_io.ice import IceServer, check_reachable
from audio_io.peer import Peer
from audio_io.rtc_peer import RtcPeer
from audio_io.webrtc import MAX_SDP_CHARS, is_data_channel, read_offer, sends_audio

logger = logging.getLogger(__name__)

EMIT_S = 50
"""How often FastRTC is told that there is no audio to play; after 60 s it would log a warning."""


MAX_BODY_BYTES = 2 * MAX_SDP_CHARS
"""Of a request; JSON makes a little more of each line's end."""


class Candidate(BaseModel):
    """One address at which the client may be reached."""

    candidate: str = Field(max_length=1024)
    sdpMid: str | None = Field(None, max_length=64)
    sdpMLineIndex: int | None = None


class Offer(BaseModel):
    """What FastRTC's clients post: an offer, and then the candidates that belong to it."""

    type: Literal["offer", "ice-candidate"]
    webrtc_id: str = Field(min_length=1, max_length=128)
    sdp: str = Field("", max_length=MAX_SDP_CHARS)
    candidate: Candidate | None = None


def fastrtc_available() -> bool:
    """Whether the `fastrtc` extra is installed. Cheap: it isn't imported."""
    return importlib.util.find_spec("fastrtc") is not None


def mount_fastrtc(
    app: FastAPI,
    serve: Callable[[Peer, Request], Awaitable[None]],
    *,
    max_connections: int,
    ice_servers: Sequence[IceServer] = (),
) -> FastRtcCalls:
    """Add `POST /webrtc/offer` to `app`, and none of FastRTC's other routes.

    For each connection `serve` runs as a task, with the peer and the request that brought it. The
    offer is answered once it asks for the peer's audio or messages; if it raises
    ConnectionRefusedError before, the offer is refused with that error's text. It should return
    when the peer is gone, and when it returns the connection is closed. Before the program ends,
    call `close` of what is returned. The first offer takes some seconds longer, in which FastRTC is
    imported.

    Raises AudioError when FastRTC isn't installed.
    """
    if not fastrtc_available():
        raise AudioError(
            "FastRTC is not installed; run: pip install 'streaming-voice-assistant[fastrtc]'"
        )
    calls = FastRtcCalls(serve, max_connections, ice_servers)
    app.post("/webrtc/offer")(calls.post)
    return calls


class FastRtcCalls:
    """The connections of FastRTC's clients, by the id that each client chose."""

    def __init__(
        self,
        serve: Callable[[Peer, Request], Awaitable[None]],
        max_connections: int,
        ice_servers: Sequence[IceServer],
    ) -> None:
        self._serve = serve
        self._max_connections = max_connections
        self._ice_servers = ice_servers
        self._calls: dict[str, _Call] = {}
        self._stream: Any = None
        self._importing = asyncio.Lock()

    async def post(self, request: Request) -> JSONResponse:
        """Answer an offer (200), or add a candidate to one that was answered before.

        The answer has the peer's id as `call_id` beside FastRTC's own fields: no one else knows
        it, while `webrtc_id` may be guessed. Refusals (400, 404, 409, 503) have FastRTC's form.
        """
        length = request.headers.get("content-length", "")
        if not length.isdigit() or int(length) > MAX_BODY_BYTES:
            return _refusal(400, f"Send at most {MAX_BODY_BYTES} bytes, with their length.")
        try:
            offer = Offer.model_validate_json(await request.body())
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            return _refusal(400, ": ".join([*map(str, first["loc"]), first["msg"]]))
        if offer.type == "ice-candidate":
            return await self._add_candidate(offer)
        return await self._answer(offer, request)

    async def close(self) -> None:
        """End all connections, cancelling what serves them; returns when it is done."""
        tasks = [call.task for call in self._calls.values() if call.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # A task that was cancelled before it began has ended nothing.
        for client_id in list(self._calls):
            await self._end(client_id)

    async def _answer(self, offer: Offer, request: Request) -> JSONResponse:
        client_id = offer.webrtc_id
        if client_id in self._calls:
            return _refusal(409, "connection_already_exists")
        if len(self._calls) >= self._max_connections:
            return _refusal(503, "concurrency_limit_reached", limit=self._max_connections)
        call = self._calls[client_id] = _Call(secrets.token_urlsafe(16))
        try:
            _require_audio_and_text(offer.sdp)
            peer, answer = await call.connect(await self._loaded_stream(), offer.sdp)
        except BaseException as error:
            await self._end(client_id)
            if isinstance(error, PeerError):
                return _refusal(400, str(error))
            if isinstance(error, UnreachableError):
                return _refusal(503, str(error))
            raise
        call.task = asyncio.create_task(
            self._run(client_id, call, peer, request), name=f"fastrtc {peer.id}"
        )
        await peer.taken.wait()
        if call.refusal:
            return _refusal(503, call.refusal)
        return JSONResponse({**answer, "call_id": peer.id})

    async def _run(self, client_id: str, call: _Call, peer: RtcPeer, request: Request) -> None:
        try:
            await self._serve(peer, request)
        except ConnectionRefusedError as error:
            call.refusal = str(error)
        except Exception:
            logger.exception("peer %s: ended by an error", peer.id)
            call.refusal = "internal_error"
        finally:
            await self._end(client_id)

    async def _end(self, client_id: str) -> None:
        if client_id in self._calls:
            await self._calls[client_id].release(self._stream)
            self._calls.pop(client_id, None)

    async def _add_candidate(self, offer: Offer) -> JSONResponse:
        call = self._calls.get(offer.webrtc_id)
        if call is None or call.peer is None or offer.candidate is None:
            return _refusal(404, "unknown_connection")
        request = {
            "type": "ice-candidate",
            "candidate": offer.candidate.model_dump(),
            "webrtc_id": call.id,
        }
        response: JSONResponse = await self._stream.handle_offer(request, set_outputs=None)
        return response

    async def _loaded_stream(self) -> Any:
        async with self._importing:
            if self._stream is None:
                # In a thread, where it holds nobody up; and with a loop running there, since
                # Gradio otherwise makes loops of its own and never closes them.
                self._stream = await asyncio.to_thread(
                    asyncio.run, _make_stream(self._max_connections, self._ice_servers)
                )
        return self._stream


@dataclass(slots=True)
class _Call:
    """One connection, and what FastRTC holds for it."""

    id: str
    peer: RtcPeer | None = None
    task: asyncio.Task[None] | None = None
    refusal: str = ""
    """Why nobody serves the peer."""
    connection: Any = None
    handler: Any = None
    callbacks: Iterable[Any] = ()

    async def connect(self, stream: Any, sdp: str) -> tuple[RtcPeer, dict[str, str]]:
        """Have FastRTC answer an offer. After a failure, `release` is still to be called.

        Raises PeerError, UnreachableError.
        """
        request = {"type": "offer", "sdp": sdp, "webrtc_id": self.id}
        try:
            answer = await stream.handle_offer(request, set_outputs=None)
        except Exception as error:
            raise PeerError(f"The SDP offer can't be answered: {error}.") from error
        finally:
            self.connection = stream.pcs.get(self.id)
            self.handler = stream.handlers.get(self.id)
            self.callbacks = tuple(stream.connections.get(self.id, ()))
        check_reachable(answer["sdp"])
        self.peer = self.handler.peer = RtcPeer(self.connection, data_channel=None, id=self.id)
        self.peer.opened(channel_offered=True)
        return self.peer, answer

    async def release(self, stream: Any) -> None:
        """Close the connection, and end the tasks that FastRTC would leave waiting. Idempotent."""
        if self.connection is None:
            return
        for callback in self.callbacks:
            callback.stop()
        if self.handler is not None:
            self.handler.channel_set.set()
            self.handler.ended.set()
        stream.connection_timeouts[self.id].set()
        stream.clean_up(self.id)
        await (self.peer or self.connection).close()
        if self.peer is not None:
            self.peer.taken.set()


async def _make_stream(max_connections: int, ice_servers: Sequence[IceServer]) -> Any:
    # Read during the import. Without it, Gradio reports that it is used and looks for updates.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    import fastrtc

    class Handler(fastrtc.AsyncStreamHandler):
        """What FastRTC gives the audio of one connection to."""

        def __init__(self) -> None:
            super().__init__()
            self.peer: RtcPeer | None = None
            self.ended = asyncio.Event()

        def copy(self) -> Handler:
            return Handler()

        def resample(self, frame: AudioFrame) -> Generator[AudioFrame, None, None]:
            """Take the audio here, where it still has its timestamp."""
            assert self.peer is not None
            self.peer.hear(frame)
            yield from ()

        async def receive(self, frame: Any) -> None:
            """Would be given what `resample` yields, which is nothing."""

        async def emit(self) -> None:
            """There is no audio to play. Must not return at once: it is called over and over."""
            with suppress(TimeoutError):
                await asyncio.wait_for(self.ended.wait(), EMIT_S)

    return fastrtc.Stream(
        Handler(),
        modality="audio",
        mode="send",
        concurrency_limit=max_connections,
        server_rtc_configuration={"iceServers": [asdict(server) for server in ice_servers]},
        # The title is what makes Gradio 5 warn of Gradio 6.
        ui_args={"hide_title": True},
        verbose=False,
    )


def _require_audio_and_text(sdp: str) -> None:
    media = read_offer(sdp).media
    if not any(map(is_data_channel, media)):
        raise PeerError(
            "The SDP offer has no data channel, and FastRTC gives no audio without one: "
            'call createDataChannel("text") before createOffer().'
        )
    if len(media) > 2 or not any(map(sends_audio, media)):
        raise PeerError(
            "The SDP offer has more than one section for audio and one for data channels."
        )


def _refusal(status: int, error: str, **details: int) -> JSONResponse:
    return JSONResponse({"status": "failed", "meta": {"error": error, **details}}, status)
