"""WebRTC clients: an SDP offer is answered, and from then on there is a peer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCIceServer,
    RTCPeerConnection,
    RTCRtpTransceiver,
    RTCSessionDescription,
)
from aiortc.mediastreams import MediaStreamError
from aiortc.rtp import RtpPacket
from aiortc.sdp import MediaDescription, SessionDescription

from audio_io.errors import PeerError, UnreachableError
from audio_io.ice import IceServer, check_reachable
from audio_io.rtc_peer import RtcPeer
from audio_io.rtp_decoding import AudioJitterBuffer, PacketDecoder

ANSWER_TIMEOUT_S = 10
"""For reading an offer: the names of its ICE candidates may have to be looked up, 1 s for each."""

MAX_SDP_CHARS = 64 * 1024
"""Browsers' offers have some 5,000."""


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
                audio = self._take_first_audio()
                await self._connection.setLocalDescription()
            check_reachable(self._connection.localDescription.sdp)
        except BaseException as error:
            await self.close()
            if isinstance(error, Exception) and not isinstance(error, UnreachableError):
                why = str(error) or f"that takes more than {ANSWER_TIMEOUT_S} s"
                raise PeerError(f"The SDP offer can't be answered: {why}.") from error
            raise
        self.opened(channel_offered=any(map(is_data_channel, offer.media)))
        self._decode(audio)
        self._receiving = asyncio.create_task(
            self._receive(audio.receiver.track), name=f"hear peer {self.id}"
        )
        return self._connection.localDescription.sdp

    def _take_first_audio(self) -> RTCRtpTransceiver:
        transceivers = self._connection.getTransceivers()
        first = next(t for t in transceivers if t.kind == "audio" and t.receiver.track is not None)
        for transceiver in transceivers:
            if transceiver is not first:
                # Otherwise its frames would pile up in aiortc (its issue 554).
                transceiver.direction = "inactive"
        return first

    def _decode(self, audio: RTCRtpTransceiver) -> None:
        """Hear what arrives there from now on."""
        decoder = PacketDecoder(audio._codecs)

        def take(packet: RtpPacket) -> None:
            for frame in decoder.decode(packet):
                self.hear(frame)

        buffer = audio.receiver._RTCRtpReceiver__jitter_buffer  # type: ignore[attr-defined]
        assert isinstance(buffer, AudioJitterBuffer)
        buffer.take = take

    async def _receive(self, track: MediaStreamTrack) -> None:
        # Its frames don't come this way, only its end.
        try:
            await track.recv()
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
        raise PeerError("This is no valid SDP offer: a line of it can't be read.") from error
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
