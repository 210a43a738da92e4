"""How long the pieces of a reply are waited for, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from assistant.engines.remote.failures import ServerFailure
from assistant.engines.remote.pieces import Piece, ToldUsage, timed
from assistant.engines.remote.settings import RemoteSettings
from tests.virtual_time import run

SETTINGS = RemoteSettings(first_token_timeout_s=20, token_timeout_s=10)
TEXT = Piece("Hello.")
END = Piece(ended_by="stop")
USAGE = Piece(usage=ToldUsage(40, 3))
END_WITH_USAGE = Piece(ended_by="stop", usage=ToldUsage(40, 3))
NEVER_S = 1e6


async def server(*sent: tuple[float, Piece], open_s: float) -> AsyncGenerator[Piece]:
    """Each piece so many seconds after the one before; the stream ends `open_s` after the last."""
    for after_s, piece in sent:
        await asyncio.sleep(after_s)
        yield piece
    await asyncio.sleep(open_s)


@pytest.mark.parametrize(
    ("sent", "open_s", "taken", "ends_at_s"),
    [
        ([(19, TEXT), (9, END), (0, USAGE)], 0, 3, 28),
        ([(19, TEXT), (9, END), (0.5, USAGE)], 0, 3, 28.5),
        # No [DONE], and a connection that stays open.
        ([(0, TEXT), (9, END), (0.5, USAGE)], NEVER_S, 3, 9.55),
        ([(0, TEXT), (9, END_WITH_USAGE)], NEVER_S, 2, 9.05),
        # A server that tells no usage.
        ([(0, TEXT), (9, END)], NEVER_S, 2, 10),
        ([(0, TEXT), (9, END)], 0.5, 2, 9.5),
        # What comes after the end doesn't put it off.
        ([(0, TEXT), (9, END), *[(0.4, Piece())] * 9], NEVER_S, 4, 10),
        ([(0, TEXT), (9, END), *[(0.04, USAGE)] * 9], NEVER_S, 4, 9.09),
    ],
)
def test_a_reply_has_ended(
    sent: list[tuple[float, Piece]], open_s: float, taken: int, ends_at_s: float
) -> None:
    async def main() -> None:
        pieces = timed(server(*sent, open_s=open_s), "host", SETTINGS)
        assert [piece async for piece in pieces] == [piece for _, piece in sent[:taken]]
        assert asyncio.get_running_loop().time() == pytest.approx(ends_at_s)

    run(main())


@pytest.mark.parametrize(
    ("sent", "complaint", "fails_at_s"),
    [
        ([], "no answer for 20 s", 20),
        ([(15, Piece())], "no answer for 20 s", 20),
        ([(15, TEXT)], "no more of the reply for 10 s", 25),
        ([(15, TEXT), (9, Piece())], "no more of the reply for 10 s", 34),
    ],
)
def test_a_reply_that_has_not(
    sent: list[tuple[float, Piece]], complaint: str, fails_at_s: float
) -> None:
    async def main() -> None:
        with pytest.raises(ServerFailure, match=f"host sent {complaint}"):
            _ = [piece async for piece in timed(server(*sent, open_s=NEVER_S), "host", SETTINGS)]
        assert asyncio.get_running_loop().time() == pytest.approx(fails_at_s)

    run(main())
