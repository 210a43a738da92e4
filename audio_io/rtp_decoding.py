"""Audio packets to samples, where they arrive. What aiortc has for it is replaced or gone around.

Its jitter buffer holds packets back for too long. Its decoder has a thread for each connection, and
what it takes to pass packets there and frames back costs as much as decoding them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

import aiortc.rtcrtpreceiver
import av
from aiortc.codecs import get_decoder
from aiortc.codecs.base import Decoder
from aiortc.codecs.opus import OpusDecoder
from aiortc.jitterbuffer import JitterBuffer, JitterFrame
from aiortc.rtcrtpparameters import RTCRtpCodecParameters
from aiortc.rtp import RtpPacket
from av import AudioFrame

from audio_io.rtp import ReorderBuffer

logger = logging.getLogger(__name__)


class AudioJitterBuffer:
    """What aiortc 1.16 keeps audio packets in, replaced.

    Its own holds every packet back by 4, and after one that is lost, which takes 4 others with it,
    by 14: 80 ms and 280 ms, for the rest of the call. This one takes 0 ms and 20 ms.
    """

    def __init__(self) -> None:
        self.take: Callable[[RtpPacket], None] | None = None
        """Where there is one, it gets the packets in order, and aiortc none to decode."""
        self._packets: ReorderBuffer[RtpPacket] = ReorderBuffer()

    def add(self, packet: RtpPacket) -> tuple[bool, JitterFrame | None]:
        """Whether to ask for a new key frame (never: that is for video), and the frame due."""
        due = self._packets.add(packet.sequence_number, packet)
        # To FFmpeg, an empty packet is the end: its decoder would take nothing after it.
        if due is None or not due._data:  # type: ignore[attr-defined]
            return False, None
        if self.take is not None:
            self.take(due)
            return False, None
        return False, _frame(due)


def _frame(packet: RtpPacket) -> JitterFrame:
    return JitterFrame(packet._data, packet.timestamp)  # type: ignore[attr-defined]


def _jitter_buffer(
    capacity: int, prefetch: int = 0, is_video: bool = False
) -> JitterBuffer | AudioJitterBuffer:
    return JitterBuffer(capacity, prefetch, is_video) if is_video else AudioJitterBuffer()


# aiortc has no setting for it (its issue 543), and its receivers look the name up as they are made.
aiortc.rtcrtpreceiver.JitterBuffer = _jitter_buffer  # type: ignore[attr-defined,assignment]


class PacketDecoder:
    """One sender's packets to frames, by whatever codec each is in."""

    def __init__(self, codecs: Iterable[RTCRtpCodecParameters]) -> None:
        """`codecs`: those that were agreed on."""
        self._codecs = {codec.payloadType: codec for codec in codecs}
        self._decoders: dict[int, Decoder] = {}
        self._failed = False

    def decode(self, packet: RtpPacket) -> list[AudioFrame]:
        """What a packet holds, packed int16; nothing where it is damaged."""
        type_ = packet.payload_type
        if type_ not in self._decoders:
            self._decoders[type_] = _decoder(self._codecs[type_])
        try:
            return self._decoders[type_].decode(_frame(packet))  # type: ignore[return-value]
        except av.FFmpegError as error:
            if not self._failed:
                logger.warning("audio can't be decoded, and is left out: %s", error)
            self._failed = True
            return []


def _decoder(codec: RTCRtpCodecParameters) -> Decoder:
    decoder = get_decoder(codec)
    if isinstance(decoder, OpusDecoder):
        # Both channels would be averaged later, at more than the cost of one.
        decoder.codec.layout = "mono"
    return decoder
