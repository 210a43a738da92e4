"""How WebRTC connections find their way through networks: what aiortc is told, and what it isn't.

A connection has one UDP socket on each address of this machine. aiortc leaves the choice of its
port to the system, and has no setting for it; PortRangeLoop is one, by way of the event loop. How
long a client may be silent before it counts as gone is aioice's: six unanswered checks, some 30 s,
as in RFC 7675. With three, a network that loses a tenth of its packets would end half of all calls
within ten minutes.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import random
from collections.abc import Callable
from dataclasses import field
from typing import Annotated, Any

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass as validated_dataclass

from audio_io.errors import UnreachableError

logger = logging.getLogger(__name__)


@validated_dataclass(frozen=True, slots=True, config=ConfigDict(extra="forbid"))
class IceServer:
    """A server that tells this one its public address (STUN), or relays for it (TURN).

    aiortc uses the first of each kind. A value that it can't use raises pydantic's ValidationError.
    """

    urls: Annotated[
        str,
        Field(
            pattern=r"^(stun:[^?:]+(:\d+)?|turn:[^?:]+(:\d+)?(\?transport=(udp|tcp))?"
            r"|turns:[^?:]+(:\d+)?(\?transport=tcp)?)$",
            description="One, such as stun:stun.example.org:3478; named as browsers name it.",
        ),
    ]
    username: str | None = None
    credential: str | None = field(default=None, repr=False)


def check_reachable(sdp: str) -> None:
    """Raises UnreachableError where an answer names no address to reach this machine at."""
    if "a=candidate:" not in sdp:
        raise UnreachableError(
            "This machine has no network address, or no UDP port free, for another call."
        )


class PortRangeLoop(asyncio.SelectorEventLoop):
    """An event loop that takes UDP ports from a range wherever any port would do."""

    def __init__(self, first_port: int, last_port: int) -> None:
        super().__init__()
        self._ports = range(first_port, last_port + 1)

    async def create_datagram_endpoint(  # type: ignore[override]
        self,
        protocol_factory: Callable[[], Any],
        local_addr: tuple[str, int] | None = None,
        **options: Any,
    ) -> tuple[asyncio.DatagramTransport, Any]:
        create = super().create_datagram_endpoint
        if local_addr is None or local_addr[1]:
            return await create(protocol_factory, local_addr, **options)
        host = local_addr[0]
        # Not always the lowest first: late packets of the call before would come to the next.
        start = random.randrange(len(self._ports))
        for port in (*self._ports[start:], *self._ports[:start]):
            try:
                return await create(protocol_factory, (host, port), **options)
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
        taken = f"all UDP ports from {self._ports[0]} to {self._ports[-1]} are taken on {host}"
        logger.warning("%s: a call may find no way", taken)
        raise OSError(errno.EADDRINUSE, taken)
