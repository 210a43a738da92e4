"""How calls find their way: a range of UDP ports, and servers that help."""

from __future__ import annotations

import asyncio
import hashlib
import re
import socket
from collections.abc import Coroutine
from typing import Any

import pytest
from aioice import stun
from pydantic import ValidationError

from audio_io.errors import UnreachableError
from audio_io.ice import IceServer, PortRangeLoop
from audio_io.webrtc import WebRtcPeer
from tests.rtc_client import RtcClient
from tests.speech import silence


def free_ports(count: int) -> tuple[int, int]:
    """A range that nobody uses; taken from below those that systems choose from."""
    for first in range(20_000, 30_000, count):
        sockets = []
        try:
            for port in range(first, first + count):
                sockets.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                sockets[-1].bind(("0.0.0.0", port))
            return first, first + count - 1
        except OSError:
            continue
        finally:
            for one in sockets:
                one.close()
    raise AssertionError("all ports are taken")


def run(ports: tuple[int, int], main: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=lambda: PortRangeLoop(*ports)) as runner:
        runner.run(main)


async def answered() -> tuple[WebRtcPeer, set[tuple[str, int]]]:
    """A peer and the addresses in its answer."""
    client, peer = RtcClient(), WebRtcPeer()
    try:
        answer = await peer.answer(await client.offer())
    finally:
        await client.close()
    found = re.findall(r"^a=candidate:\S+ \d+ udp \d+ (\S+) (\d+) typ host", answer, re.M)
    return peer, {(host, int(port)) for host, port in found}


def test_calls_use_ports_of_the_range_and_give_them_back() -> None:
    first, last = ports = free_ports(60)

    async def call() -> None:
        # An offer takes ports, too, and gives them back.
        for _ in range(3):
            (one, used), (other, more) = await answered(), await answered()
            assert used and more and not used & more
            assert all(first <= port <= last for _, port in used | more)
            await one.close()
            await other.close()

    run(ports, call())


def test_a_call_goes_through_over_such_ports() -> None:
    async def call() -> None:
        client, peer = RtcClient(), WebRtcPeer()
        await client.connect(peer.answer)
        await client.say(silence(100))
        assert await anext(peer.audio())
        await client.close()
        await peer.close()

    run(free_ports(60), call())


def test_without_a_port_there_is_no_call(caplog: pytest.LogCaptureFixture) -> None:
    ports = free_ports(1)

    async def call() -> None:
        client = RtcClient()
        offer = await client.offer()
        await client.close()
        taken = []
        for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
            taken.append(socket.socket(family, socket.SOCK_DGRAM))
            if family == socket.AF_INET6:
                taken[-1].setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            taken[-1].bind((address, ports[0]))
        with pytest.raises(UnreachableError, match="no UDP port free"):
            await WebRtcPeer().answer(offer)
        for one in taken:
            one.close()

    run(ports, call())
    assert f"all UDP ports from {ports[0]} to {ports[0]} are taken" in caplog.text


def test_ports_that_are_asked_for_are_left_alone() -> None:
    async def bind() -> None:
        loop = asyncio.get_running_loop()
        (wanted, _) = free_ports(2)
        for address, expected in ((("127.0.0.1", wanted), wanted), (None, None)):
            transport, _protocol = await loop.create_datagram_endpoint(
                asyncio.DatagramProtocol,
                local_addr=address,
                remote_addr=None if address else ("127.0.0.1", 9),
            )
            port = transport.get_extra_info("sockname")[1]
            assert port == expected if expected else port != 40_000
            transport.close()

    run((40_000, 40_000), bind())


class Helper(asyncio.DatagramProtocol):
    """A STUN and TURN server that says where a client is seen, and relays for those it knows."""

    PUBLIC, RELAYED = ("203.0.113.7", 4000), ("203.0.113.8", 5000)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        asked = stun.parse_message(data)
        answer = stun.Message(asked.message_method, stun.Class.RESPONSE, asked.transaction_id)
        answer.attributes["XOR-MAPPED-ADDRESS"] = self.PUBLIC
        if "USERNAME" in asked.attributes:
            key = hashlib.md5(b"me:example.org:secret").digest()
            assert asked.check_message_integrity(key)
            answer.attributes["XOR-RELAYED-ADDRESS"] = self.RELAYED
            answer.attributes["LIFETIME"] = asked.attributes.get("LIFETIME", 600)
            answer.add_message_integrity(key)
        elif asked.message_method != stun.Method.BINDING:
            answer.message_class = stun.Class.ERROR
            answer.attributes["ERROR-CODE"] = (401, "Unauthorized")
            answer.attributes["NONCE"] = b"nonce"
            answer.attributes["REALM"] = "example.org"
        self._transport.sendto(bytes(answer), addr)


@pytest.mark.parametrize(
    ("scheme", "found"),
    [
        ("stun", f"{Helper.PUBLIC[0]} {Helper.PUBLIC[1]} typ srflx"),
        ("turn", f"{Helper.RELAYED[0]} {Helper.RELAYED[1]} typ relay"),
    ],
)
async def test_addresses_beyond_this_network_are_found(scheme: str, found: str) -> None:
    client = RtcClient()
    offer = await client.offer()
    host = re.search(r"^a=candidate:.* udp \d+ (\d+\.\S+) ", offer, re.M)[1]
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(Helper, local_addr=(host, 0))
    port = transport.get_extra_info("sockname")[1]
    peer = WebRtcPeer(ice_servers=[IceServer(f"{scheme}:{host}:{port}", "me", "secret")])
    await client.close()
    assert found in await peer.answer(offer)
    await peer.close()
    transport.close()


@pytest.mark.parametrize(
    "urls",
    [
        "stun:stun.example.org",
        "stun:stun.example.org:3478",
        "turn:turn.example.org?transport=udp",
        "turns:turn.example.org:443?transport=tcp",
    ],
)
async def test_servers_are_handed_on(urls: str) -> None:
    peer = WebRtcPeer(ice_servers=[IceServer(urls, "me", "secret")])
    (given,) = peer._connection._RTCPeerConnection__configuration.iceServers
    assert (given.urls, given.username, given.credential) == (urls, "me", "secret")
    await peer.close()


@pytest.mark.parametrize(
    "urls",
    ["example.org", "http://example.org", "stun:a?transport=udp", "turns:a?transport=udp", "turn:"],
)
def test_servers_that_aiortc_cannot_use_are_refused(urls: str) -> None:
    with pytest.raises(ValidationError):
        IceServer(urls)


def test_the_credential_is_not_printed() -> None:
    assert "secret" not in repr(IceServer("turn:a", "me", "secret"))
