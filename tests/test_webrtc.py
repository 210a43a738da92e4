"""WebRTC peers, met by real aiortc clients on this machine's own network addresses."""

from __future__ import annotations

import asyncio
import gc
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aioice.ice
import numpy as np
import pytest
import soxr
from aiortc import RTCDataChannel, RTCRtpSender
from aiortc.mediastreams import AudioStreamTrack, VideoStreamTrack
from aiortc.rtcrtpparameters import RTCRtpCodecParameters
from aiortc.rtp import RtpPacket
from av import AudioFrame
from hypothesis import given, settings
from hypothesis import strategies as st

import audio_io.rtc_peer
from audio_io.errors import PeerError
from audio_io.pcm import SAMPLE_RATE_HZ, Int16Array
from audio_io.rtp_decoding import PacketDecoder
from audio_io.webrtc import MAX_SDP_CHARS, WebRtcPeer
from tests.rtc_client import RtcClient
from tests.speech import prompt

OPUS_RATE_HZ = 48_000
FRAME = OPUS_RATE_HZ // 50


@asynccontextmanager
async def call(**options: object) -> AsyncIterator[tuple[WebRtcPeer, RtcClient]]:
    """A peer and the client that it is connected to; afterwards, nothing of them is left."""
    peer, client = WebRtcPeer(), RtcClient(**options)
    await client.connect(peer.answer)
    try:
        yield peer, client
    finally:
        await client.close()
        await peer.close()
    await no_tasks_left()


async def no_tasks_left() -> None:
    """Returns when all other tasks have ended."""
    async with asyncio.timeout(10):
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others)


async def heard(peer: WebRtcPeer, count: int) -> list[Int16Array]:
    """The next pieces of audio; what is held back shows as a timeout."""
    pieces = []
    async with asyncio.timeout(10):
        async for samples, rate in peer.audio():
            assert rate == OPUS_RATE_HZ and samples.dtype == np.int16
            pieces.append(samples)
            if len(pieces) == count:
                break
    return pieces


def tone(duration_ms: int) -> Int16Array:
    seconds = np.arange(duration_ms * SAMPLE_RATE_HZ // 1000) / SAMPLE_RATE_HZ
    return (8_000 * np.sin(2 * np.pi * 440 * seconds)).astype(np.int16)


def similarity(received: Int16Array, sent: Int16Array) -> float:
    """The highest correlation of `received`, 48 kHz mono, with `sent` at any delay."""
    a = received[:, 0].astype(np.float64)
    b = soxr.resample(sent.astype(np.float64), SAMPLE_RATE_HZ, OPUS_RATE_HZ)
    n = len(a) + len(b)
    products = np.fft.irfft(np.fft.rfft(a, n) * np.conj(np.fft.rfft(b, n)), n)
    return float(products.max() / np.sqrt((a @ a) * (b @ b)))


async def test_speech_arrives_as_it_was_spoken() -> None:
    spoken = prompt("hello-world")
    async with call() as (peer, client):
        await client.say(np.concatenate([spoken, tone(200) * 0]))
        received = np.concatenate(await heard(peer, client.packets_sent))
    assert received.shape[1] == 1
    assert similarity(received, spoken) > 0.95


async def test_an_offer_without_candidates_is_answered() -> None:
    peer, client = WebRtcPeer(), RtcClient()
    offer = await client.offer(candidates=False)
    assert "candidate" not in offer
    await client.accept(await peer.answer(offer))
    await client.say(tone(100))
    await heard(peer, 1)
    await client.close()
    await peer.close()


async def test_a_lost_packet_is_silence_and_holds_nothing_back() -> None:
    lost = 20
    async with call(lost={lost}) as (peer, client):
        await client.say(tone(2_000))
        # One packet waits for the next; aiortc's own buffer would hold back 14.
        pieces = await heard(peer, client.packets_sent - 1)
    assert all(len(piece) == FRAME for piece in pieces)
    silent = [i for i, piece in enumerate(pieces) if not piece.any()]
    assert silent == [lost]


async def test_packets_that_change_places_are_put_in_order() -> None:
    async with call(swapped={10, 30}) as (peer, client):
        await client.say(tone(1_000))
        pieces = await heard(peer, client.packets_sent - 1)
    assert all(len(piece) == FRAME and piece.any() for piece in pieces)
    # In any other order, the tone would break at the borders.
    received = np.concatenate(pieces)[:, 0].astype(int)
    assert np.abs(np.diff(received)).max() < 1_000


@pytest.mark.parametrize(("skipped_ms", "filled_ms"), [(100, 100), (5_000, 200)])
async def test_a_pause_is_silence_as_far_as_no_clock_has_filled_it(
    skipped_ms: int, filled_ms: int
) -> None:
    async with call() as (peer, client):
        await client.say(tone(500))
        client.skip(skipped_ms)
        await client.say(tone(500))
        pieces = await heard(peer, client.packets_sent + 1)
    silent = [len(piece) for piece in pieces if not piece.any()]
    assert silent == [filled_ms * OPUS_RATE_HZ // 1000]


async def test_audio_that_nobody_takes_is_bounded(caplog: pytest.LogCaptureFixture) -> None:
    peer = WebRtcPeer()
    for number in range(300):
        frame = AudioFrame.from_ndarray(
            np.full((1, 2 * FRAME), number, np.int16), format="s16", layout="stereo"
        )
        frame.sample_rate, frame.pts = OPUS_RATE_HZ, number * FRAME
        peer.hear(frame)
    # The last 5 s of 6.
    assert [piece[0, 0] for piece in await heard(peer, 250)] == list(range(50, 300))
    assert peer.dropped_samples == 50 * FRAME
    assert [r.message for r in caplog.records] == [
        f"peer {peer.id}: nobody takes its audio, dropping the oldest"
    ]


async def test_messages_go_both_ways_in_order() -> None:
    texts = [f"{i} äöü 語" for i in range(50)]
    async with call() as (peer, client):
        for text in texts:
            client.send(text)
        received = [await anext(peer.messages()) for _ in texts]
        await asyncio.gather(*(peer.send(text) for text in texts))
        assert received == texts
        assert [await client.messages.get() for _ in texts] == texts


async def test_bytes_are_read_as_utf8() -> None:
    async with call() as (peer, client):
        client.send("größer".encode())
        client.send(b"\xff{}")
        assert await anext(peer.messages()) == "größer"
        assert await anext(peer.messages()) == "\N{REPLACEMENT CHARACTER}{}"


async def test_text_is_sent_once_the_channel_opens() -> None:
    peer, client = WebRtcPeer(), RtcClient()
    answer = await peer.answer(await client.offer())
    early = asyncio.create_task(peer.send("early"))
    await client.accept(answer)
    await early
    assert await client.messages.get() == "early"
    await client.close()
    await peer.close()


async def test_text_is_handed_over_only_behind_at_most_64_kb(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    unsent_before: list[int] = []
    send = RTCDataChannel.send

    def spy(channel: RTCDataChannel, text: str) -> None:
        unsent_before.append(channel.bufferedAmount)
        send(channel, text)

    texts = [chr(ord("a") + i % 26) * 10_000 for i in range(60)]
    async with call() as (peer, client):
        monkeypatch.setattr(RTCDataChannel, "send", spy)
        await asyncio.gather(*(peer.send(text) for text in texts))
        assert [await client.messages.get() for _ in texts] == texts
    assert 50_000 < max(unsent_before) <= 64 * 1024


async def test_a_text_that_is_too_long_for_the_client_is_an_error() -> None:
    async with call() as (peer, client):
        with pytest.raises(PeerError, match="only supports messages up to 262144 bytes"):
            await peer.send("x" * 300_000)
        await peer.send("on it goes")
        assert await client.messages.get() == "on it goes"


async def test_without_a_data_channel_text_is_dropped() -> None:
    async with call(data_channel=None) as (peer, client):
        await peer.send("to nobody")
        await client.say(tone(100))
        await heard(peer, 1)


async def test_a_flood_of_messages_ends_the_call() -> None:
    async with call() as (peer, client):
        for _ in range(50):
            client.send("x" * 100_000)
        async with asyncio.timeout(20):
            await peer.wait_closed()


@pytest.mark.parametrize("who", ["client", "peer"])
async def test_when_one_side_hangs_up_everything_ends(who: str) -> None:
    async with call() as (peer, client):
        listening = asyncio.create_task(anext(peer.audio(), None))
        reading = asyncio.create_task(anext(peer.messages(), None))
        async with asyncio.timeout(10):
            await (client if who == "client" else peer).close()
            await peer.wait_closed()
            assert await listening is None
            assert await reading is None
            await client.closed.wait()
        with pytest.raises(ConnectionError):
            await peer.send("too late")
        await peer.close()


async def test_who_waits_to_send_learns_that_the_peer_is_gone() -> None:
    peer, client = WebRtcPeer(), RtcClient()
    await peer.answer(await client.offer())
    waiting = asyncio.create_task(peer.send("never"))
    await peer.close()
    with pytest.raises(ConnectionError):
        await waiting
    await client.close()
    await no_tasks_left()


async def test_a_client_that_vanishes_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aioice.ice, "CONSENT_INTERVAL", 0.01)
    monkeypatch.setattr(aioice.ice, "CONSENT_FAILURES", 1)
    async with call() as (peer, client):
        client.vanish()
        async with asyncio.timeout(20):
            assert [message async for message in peer.messages()] == []


async def test_a_client_that_never_connects_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audio_io.rtc_peer, "CONNECT_TIMEOUT_S", 0)
    peer, client = WebRtcPeer(), RtcClient()
    await peer.answer(await client.offer())
    async with asyncio.timeout(10):
        await peer.wait_closed()
    await peer.close()
    await client.close()
    await no_tasks_left()


async def test_a_channel_of_another_name_is_closed() -> None:
    closed = asyncio.Event()
    async with call(data_channel="something-else") as (_, client), asyncio.timeout(10):
        client.channel.on("close", closed.set)
        await closed.wait()


async def test_one_audio_track_is_taken_and_all_else_refused() -> None:
    peer, client = WebRtcPeer(), RtcClient()
    client.connection.addTrack(AudioStreamTrack())
    client.connection.addTrack(VideoStreamTrack())
    answer = await peer.answer(await client.offer())
    await client.accept(answer)
    await client.say(tone(100))
    await heard(peer, 1)
    directions = [t.currentDirection for t in client.connection.getTransceivers()]
    assert directions == ["sendonly", "inactive", "inactive"]
    await client.close()
    await peer.close()
    await no_tasks_left()


async def test_g711_is_heard_at_its_own_rate() -> None:
    peer, client = WebRtcPeer(), RtcClient()
    codecs = RTCRtpSender.getCapabilities("audio").codecs
    client.connection.getTransceivers()[0].setCodecPreferences(
        [codec for codec in codecs if codec.mimeType == "audio/PCMU"]
    )
    await client.connect(peer.answer)
    await client.say(tone(100))
    samples, rate = await anext(peer.audio())
    assert (samples.shape, rate) == ((160, 1), 8_000)
    await client.close()
    await peer.close()


@given(
    st.sampled_from(["audio/opus", "audio/PCMU", "audio/G722"]),
    st.lists(st.binary(min_size=1, max_size=400), max_size=20),
)
def test_packets_of_anything_are_decoded_or_left_out(mime: str, payloads: list[bytes]) -> None:
    codec = RTCRtpCodecParameters(mime, 48_000, 2, payloadType=96)
    decoder = PacketDecoder([codec])
    for number, payload in enumerate(payloads):
        packet = RtpPacket(payload_type=96, sequence_number=number, timestamp=number * 960)
        packet._data = payload
        for frame in decoder.decode(packet):
            assert frame.format.name == "s16" and frame.layout.nb_channels == 1


def test_damaged_audio_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    decoder = PacketDecoder([RTCRtpCodecParameters("audio/opus", 48_000, 2, payloadType=96)])
    packet = RtpPacket(payload_type=96)
    packet._data = b"\xff" * 3
    assert [decoder.decode(packet) for _ in range(3)] == [[], [], []]
    assert len(caplog.records) == 1


async def test_no_server_is_asked_for_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up = []

    async def getaddrinfo(host: str, *_: object, **__: object) -> list[object]:
        looked_up.append(host)
        return []

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    async with call():
        pass
    assert looked_up == []


async def offer_of(**options: object) -> str:
    client = RtcClient(**options)
    try:
        return await client.offer()
    finally:
        await client.close()


@pytest.mark.parametrize("body", ["", "hello", "{}", "\x00", "<html>", "m=audio 9 RTP/AVP 0"])
async def test_what_is_no_sdp_is_refused(body: str) -> None:
    with pytest.raises(PeerError, match="no SDP offer"):
        await WebRtcPeer().answer(body)


@pytest.mark.parametrize(
    ("pattern", "replacement", "message"),
    [
        ("a=sendrecv", "a=recvonly", "sends no audio"),
        ("m=audio", "m=text", "sends no audio"),
        ("a=fingerprint", "a=finger", "no a=fingerprint"),
        ("a=setup:actpass", "a=setup:nonsense", "no valid SDP offer"),
        ("a=sctp-port:5000", "a=sctp:5000", "no data channel"),
        ("a=ice-ufrag", "a=ufrag", "can't be answered: .*ICE username"),
        ("(opus|G722|PCMU|PCMA)/", "speex/", "can't be answered: .*audio"),
        ("UDP/TLS/RTP/SAVPF", "?", "no valid SDP offer"),
        ("s=-", "s=-" + "x" * MAX_SDP_CHARS, "65536 are allowed"),
    ],
)
async def test_an_offer_that_cannot_work_is_refused(
    pattern: str, replacement: str, message: str
) -> None:
    offer = re.sub(pattern, replacement, await offer_of())
    with pytest.raises(PeerError, match=message):
        await WebRtcPeer().answer(offer)
    await no_tasks_left()


# Places are drawn apart from the offer, which is never the same twice.
@settings(max_examples=12, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 999),
            st.integers(0, 99),
            st.sampled_from(["remove", "double", "cut the end", "cut the start"]),
        ),
        min_size=1,
        max_size=4,
    )
)
async def test_a_damaged_offer_is_answered_or_refused_and_leaves_nothing(
    damages: list[tuple[int, int, str]],
) -> None:
    failures: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, failure: failures.append(failure))
    lines = (await offer_of()).splitlines(keepends=True)
    for place, cut, damage in damages:
        line = lines[place % len(lines)]
        cut %= len(line) + 1
        lines[place % len(lines)] = {
            "remove": "",
            "double": line * 2,
            "cut the end": line[:cut] + "\r\n",
            "cut the start": line[cut:],
        }[damage]
    peer = WebRtcPeer()
    try:
        await peer.answer("".join(lines))
    except PeerError as error:
        assert str(error)
    else:
        await peer.close()
    await no_tasks_left()
    # Brings out what background tasks have failed with.
    gc.collect()
    assert failures == []
