"""The way from a device's thread to the event loop: order, bounds, wakes and the end."""

from __future__ import annotations

import asyncio
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audio_io.handover import Handover
from tests.virtual_time import run


@given(st.lists(st.integers(0, 9), max_size=12))
def test_the_newest_blocks_arrive_in_order_and_the_rest_is_counted(puts: list[int]) -> None:
    """`puts`: how many blocks come before each time that they are taken."""

    async def main() -> None:
        handover = Handover(max_blocks=4)
        number = dropped = 0
        for count in puts:
            blocks = [b"%d," % (number + index) for index in range(count)]
            number += count
            dropped += sum(map(len, blocks[:-4]))
            for block in blocks:
                handover.put(block)
            if blocks:
                assert await handover.take() == b"".join(blocks[-4:])
            assert handover.dropped_bytes == dropped

    run(main())


async def test_nothing_is_lost_on_the_way_from_another_thread() -> None:
    handover = Handover(max_blocks=10_000)

    def device() -> None:
        for number in range(10_000):
            handover.put(number.to_bytes(2, "big"))
        handover.close()

    thread = threading.Thread(target=device)
    thread.start()
    heard = b""
    while data := await handover.take():
        heard += data
    thread.join()
    assert heard == b"".join(number.to_bytes(2, "big") for number in range(10_000))
    assert handover.dropped_bytes == 0


async def test_many_blocks_wake_the_loop_once(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    wakes: list[object] = []
    call = loop.call_soon_threadsafe
    monkeypatch.setattr(
        loop, "call_soon_threadsafe", lambda *args: (wakes.append(args), call(*args))
    )
    handover = Handover(max_blocks=100)
    taking = asyncio.create_task(handover.take())
    await asyncio.sleep(0)
    for _ in range(50):
        handover.put(b"x")
    assert await taking == b"x" * 50
    assert len(wakes) == 1


async def test_closing_wakes_who_waits_and_leaves_what_came() -> None:
    handover = Handover(max_blocks=4)
    taking = asyncio.create_task(handover.take())
    await asyncio.sleep(0)
    handover.close()
    assert await taking == b""
    handover.put(b"late")
    assert [await handover.take(), await handover.take()] == [b"late", b""]
