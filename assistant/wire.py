"""The websocket underneath: uvicorn's, and what it lacks."""

from __future__ import annotations

import asyncio
from typing import ClassVar, cast

from uvicorn._types import ASGISendEvent
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode


class WebSocketWire(WebSocketsSansIOProtocol):
    """Lets go of a peer that takes nothing, keeps the log clean of keys and of what is no fault
    of ours, and reads for less.

    uvicorn stops reading with each message and starts again when that is taken, which is several
    system calls for 20 ms of audio. Here, reading stops where a second message waits.
    """

    stuck_s: ClassVar[float]
    """How long a peer may take nothing of what waits for it."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        self._stuck: asyncio.TimerHandle | None = None
        # At that level the library writes every header, and every message, into uvicorn's log.
        self.conn.debug = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        # So that writing is paused whenever anything waits, and not from 64 kB on. By 0, it would
        # be over TLS when nothing does.
        cast(asyncio.WriteTransport, transport).set_write_buffer_limits(high=1)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.queue.qsize() > 1:
            self.transport.pause_reading()

    # To uvicorn, reading has always stopped: so it doesn't stop it, and starts it again when all is
    # taken.
    @property
    def read_paused(self) -> bool:
        return True

    @read_paused.setter
    def read_paused(self, _: bool) -> None: ...

    def send_receive_event_to_app(self) -> None:
        if self.curr_msg_data_type == "text" and not self.close_sent:
            self.frames = [b"".join(self.frames)]
            try:
                self.frames[0].decode()
            except UnicodeDecodeError:
                # uvicorn would log a traceback.
                self.conn.send_close(CloseCode.INVALID_DATA, "The text is not UTF-8.")
                self.handle_parser_exception()
                return
        super().send_receive_event_to_app()

    async def send(self, message: ASGISendEvent) -> None:
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and self.close_sent:
            # The answer to a refused upgrade has gone; uvicorn would complain that there was none.
            self.handshake_complete = True

    def pause_writing(self) -> None:
        super().pause_writing()
        # A transport that is closed first waits until all is sent: to who reads nothing, for ever.
        self._stuck = self.loop.call_later(self.stuck_s, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._calm()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._calm()

    def _calm(self) -> None:
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None
