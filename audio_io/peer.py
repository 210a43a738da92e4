"""A remote speaker, whatever transport brought them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from audio_io.pcm import Int16Array


class Peer(Protocol):
    """One connection: audio and text in, text out. Each iterator is for one consumer."""

    @property
    def id(self) -> str:
        """Unlike any other's, and not to be guessed."""

    @property
    def takes_text(self) -> bool:
        """Whether there is, or will be, a channel for `send`."""

    def audio(self) -> AsyncIterator[tuple[Int16Array, int]]:
        """Samples, int16 (n,) or (n, channels), and their rate in Hz; ends when the peer is gone.

        Packets that were lost are silence, as a piece of its own. While audio has stopped coming,
        nothing is yielded; its first 200 ms are made up for when it comes again, the rest is for
        the listener's clock (audio_io/continuity.py).
        """

    def messages(self) -> AsyncIterator[str]:
        """The text messages that the peer sends; ends when it is gone."""

    async def send(self, text: str) -> None:
        """Give `text` to the transport once at most 64 kB are unsent there, in order of calls.

        Raises ConnectionError when the peer is gone, then or while waiting, and PeerError for a
        text that is longer than the peer takes; the connection goes on after that.
        """

    async def close(self) -> None:
        """End the connection; returns when all of it is released. Idempotent."""

    async def wait_closed(self) -> None:
        """Wait until the peer is gone or `close` has been called."""
