"""WebRTC clients: an SDP offer is answered, and from then on there is a peer.

aiortc does the work; its jitter buffer for audio is replaced here, for the whole process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import aiortc.rtcrtpreceiver
from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCIceServer,
    RTCPeerConnection,
    RTCSessionDescription,
)
from aiortc.jitterbuffer import JitterBuffer, JitterFrame
from aiortc.mediastreams import MediaStreamError
from aiortc.rtp import RtpPacket
from aiortc.sdp import MediaDescription, SessionDescription
from av import AudioFrame

from audio_io.errors import PeerError, UnreachableError
from audio_io.ice import IceServer, check_reachable
from audio_io.rtc_peer import RtcPeer
from audio_io.rtp import ReorderBuffer

ANSWER_TIMEOUT_S = 10
"""For reading an offer: the names of its ICE candidates may have to be looked up, 1 s for each."""

MAX_SDP_CHARS = 64 * 1024
"""Browsers' offers have some 5,000."""


class AudioJitterBuffer:
    """What aiortc 1.16 keeps audio packets in, replaced.

    Its own holds every packet back by 4, and after one that is lost, which takes 4 others with it,
    by 14: 80 ms and 280 ms, for the rest of the call. This one takes 0 ms and 20 ms.
    """

    def __init__(self) -> None:
        self._packets: ReorderBuffer[RtpPacket] = ReorderBuffer()

    def add(self, packet: RtpPacket) -> tuple[bool, JitterFrame | None]:
        """Whether to ask for a new key frame (never: that is for video), and the frame due."""
        due = self._packets.add(packet.sequence_number, packet)
        # To FFmpeg, an empty packet is the end: its decoder would take nothing after it.
        if due is None or not due._data:  # type: ignore[attr-defined]
            return False, None
        return False, JitterFrame(due._data, due.timestamp)  # type: ignore[attr-defined]


def _jitter_buffer(
    capacity: int, prefetch: int = 0, is_video: bool = False
) -> JitterBuffer | AudioJitterBuffer:
    return JitterBuffer(capacity, prefetch, is_video) if is_video else AudioJitterBuffer()


# aiortc has no setting for it (its issue 543), and its receivers look the name up as they are made.
aiortc.rtcrtpreceiver.JitterBuffer = _jitter_buffer  # type: ignore[attr-defined,assignment]


class WebRtcPeer(RtcPeer):
    """A client that brings an SDP offer, such as a browser's."""

    def __init__(
        self, *, data_channel: str = "oai-events", ice_servers: Sequence[IceServer] = ()
    ) -> None:
        """`data_channel`: the label that the client must give to its channel for text."""
        # Always a list: without one, aiortc asks a public server.
        servers = [RTCIceServer(ice.urls, ice.username, ice.credential) for ice in ice_servers]
        super().__init__(RTCPeerConnection(RTCConfiguration(servers)), data_channel=data_channel)
        self._receiving: asyncio.Task[None] | None = None

    async def answer(self, offer_sdp: str) -> str:
        """The SDP that answers `offer_sdp`; to be called once. The offer may lack candidates.

        The first section that sends audio is taken, all others but the data channel's are refused
        in the answer. Raises PeerError if this is no such offer, and UnreachableError if the
        client would find no way here; nothing stays open then.
        """
        offer = read_offer(offer_sdp)
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                await self._connection.setRemoteDescription(
                    RTCSessionDescription(sdp=offer_sdp, type="offer")
                )
                track = self._take_first_audio()
                await self._connection.setLocalDescription()
            check_reachable(self._connection.localDescription.sdp)
        except BaseException as error:
            await self.close()
            if isinstance(error, Exception) and not isinstance(error, UnreachableError):
                raise PeerError(f"The SDP offer can't be answered: {error!r}") from error
            raise
        self.opened(channel_offered=any(map(is_data_channel, offer.media)))
        self._receiving = asyncio.create_task(self._receive(track), name=f"hear peer {self.id}")
        return self._connection.localDescription.sdp

    def _take_first_audio(self) -> MediaStreamTrack:
        transceivers = self._connection.getTransceivers()
        first = next(t for t in transceivers if t.kind == "audio" and t.receiver.track is not None)
        for transceiver in transceivers:
            if transceiver is not first:
                # Otherwise its frames would pile up in aiortc (its issue 554).
                transceiver.direction = "inactive"
        return first.receiver.track

    async def _receive(self, track: MediaStreamTrack) -> None:
        try:
            while True:
                frame = await track.recv()
                assert isinstance(frame, AudioFrame)
                self.hear(frame)
        except MediaStreamError:
            self._begin_close()

    async def _release(self) -> None:
        await super()._release()
        if self._receiving is not None:
            self._receiving.cancel()
            await asyncio.wait([self._receiving])


def read_offer(sdp: str) -> SessionDescription:
    """The offer, parsed. Raises PeerError unless it sends audio and can be connected to.

    aiortc itself takes any text, and fails over some of them only in the background.
    """
    if len(sdp) > MAX_SDP_CHARS:
        raise PeerError(f"The SDP offer has {len(sdp)} characters; {MAX_SDP_CHARS} are allowed.")
    if not sdp.startswith("v=0"):
        raise PeerError("This is no SDP offer: it doesn't begin with v=0.")
    try:
        offer = SessionDescription.parse(sdp)
    except Exception as error:
        raise PeerError(f"This is no valid SDP offer: {error!r}") from error
    if not any(map(sends_audio, offer.media)):
        raise PeerError(
            "The SDP offer sends no audio: it needs an m=audio section with a=sendrecv or "
            "a=sendonly. Add the microphone before createOffer()."
        )
    for media in offer.media:
        if media.dtls is None or not media.dtls.fingerprints:
            raise PeerError(f"The m={media.kind} section has no a=fingerprint or no a=setup.")
        if media.kind == "application" and not is_data_channel(media):
            raise PeerError("The m=application section is no data channel with an a=sctp-port.")
    mids = {media.rtp.muxId for media in offer.media}
    bundled = {mid for group in offer.group if group.semantic == "BUNDLE" for mid in group.items}
    if len(mids) != len(offer.media) or not bundled <= mids:
        raise PeerError("Sections share an a=mid, or a=group:BUNDLE names one that isn't there.")
    return offer


def sends_audio(media: MediaDescription) -> bool:
    """Whether this section of an offer is audio from the client."""
    return media.kind == "audio" and media.direction in ("sendrecv", "sendonly")


def is_data_channel(media: MediaDescription) -> bool:
    """Whether this section of an offer is for data channels."""
    return media.kind == "application" and (
        media.sctp_port is not None or media.profile == "DTLS/SCTP"
    )
