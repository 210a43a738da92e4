"""A worker that hangs is told from one that is busy, and from one whom nobody could hear."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal, cast

import pytest

from assistant.engines.engine import Finished, ReplyEvent, ReplyOptions
from assistant.engines.transformers import TransformersEngine, TransformersSettings
from assistant.engines.transformers.host import ProcessHost
from assistant.engines.transformers.session import TransformersReply, TransformersSession
from assistant.engines.transformers.watchdog import LOOKS, Watchdog
from assistant.errors import EngineError
from assistant.prompt import Prompt
from tests.dialogue import prompt, user
from tests.virtual_time import LeapingLoop, VirtualTimeLoop, run

TIMEOUT_S = 30.0
LOOK_S = TIMEOUT_S / LOOKS
TYPED = prompt(user("Typed."))
HELD = ReplyOptions(speculative=True)
AHEAD_TOKENS = 4


class Patient:
    """Somebody to be looked after, and what happens to him when."""

    def __init__(self, timeout_s: float | None = TIMEOUT_S, *, answers: bool = False) -> None:
        self.loop = asyncio.get_running_loop()
        self.busy = True
        self.answers = answers
        self.events: list[tuple[float, str]] = []
        self.watchdog = Watchdog(
            timeout_s, busy=lambda: self.busy, ask=self.asked, hung=lambda: self.note("hung")
        )

    def note(self, event: str) -> None:
        self.events.append((self.loop.time(), event))

    def asked(self) -> None:
        self.note("asked")
        if self.answers:
            self.loop.call_soon(self.watchdog.heard)


def test_who_gives_no_sign_is_given_up_once() -> None:
    async def main() -> None:
        patient = Patient()
        patient.watchdog.watch()
        await asyncio.sleep(10 * TIMEOUT_S)
        assert patient.events == [(LOOK_S, "asked"), (LOOK_S + TIMEOUT_S, "hung")]

    run(main())


def test_who_answers_is_asked_again_as_long_as_he_is_busy() -> None:
    async def main() -> None:
        patient = Patient(answers=True)
        patient.watchdog.watch()
        patient.watchdog.watch()
        await asyncio.sleep(LOOK_S * 100.5)
        assert [event for _, event in patient.events] == ["asked"] * 100
        patient.busy = False
        await asyncio.sleep(TIMEOUT_S)
        assert len(patient.events) == 100
        # Nothing is left that would cost anything.
        assert len(asyncio.all_tasks()) == 1
        patient.busy, patient.answers = True, False
        patient.watchdog.watch()
        await asyncio.sleep(2 * TIMEOUT_S)
        assert [event for _, event in patient.events[100:]] == ["asked", "hung"]

    run(main())


def test_any_sign_of_life_will_do() -> None:
    async def main() -> None:
        patient = Patient()
        patient.watchdog.watch()
        for _ in range(20):
            await asyncio.sleep(TIMEOUT_S)
            patient.watchdog.heard()
        assert {event for _, event in patient.events} == {"asked"}

    run(main())


def test_time_in_which_nobody_looked_does_not_count() -> None:
    async def main() -> None:
        patient = Patient()
        patient.watchdog.watch()
        await asyncio.sleep(LOOK_S * 5)
        assert isinstance(patient.loop, VirtualTimeLoop)
        patient.loop.stall(86_400)
        await asyncio.sleep(0)
        patient.watchdog.heard()
        await asyncio.sleep(LOOK_S * 5)
        assert [event for _, event in patient.events] == ["asked", "asked"]

    run(main())


def test_without_a_timeout_nobody_is_asked() -> None:
    async def main() -> None:
        patient = Patient(timeout_s=None)
        patient.watchdog.watch()
        await asyncio.sleep(86_400)
        assert patient.events == []
        stopped = Patient()
        stopped.watchdog.watch()
        stopped.watchdog.stop()
        stopped.watchdog.watch()
        await asyncio.sleep(86_400)
        assert stopped.events == []

    run(main())


@pytest.mark.parametrize(
    ("asked", "on_gpu", "on_cpu"), [("auto", 30.0, None), (5.0, 5.0, 5.0), (None, None, None)]
)
def test_how_long_a_step_may_take(
    asked: float | Literal["auto"] | None, on_gpu: float | None, on_cpu: float | None
) -> None:
    settings = TransformersSettings(step_timeout_s=asked)
    assert settings.longest_step_s(on_gpu=True) == on_gpu
    assert settings.longest_step_s(on_gpu=False) == on_cpu


class OutOfReach:
    """A process that waits for a device, where no signal reaches it."""

    pid, returncode, killed = 1, None, False

    def kill(self) -> None:
        self.killed = True

    async def wait(self) -> int:
        await asyncio.Event().wait()
        return 0


def test_nobody_waits_for_a_process_that_no_signal_reaches() -> None:
    async def main() -> None:
        process = OutOfReach()
        assert await ProcessHost(cast(Process, process)).ended() == "can't be ended"
        assert process.killed

    run(main())


# Workers.


@asynccontextmanager
async def running(folder: Path, **options: Any) -> AsyncIterator[TransformersEngine]:
    defaults = {"device": "cpu", "decode_ahead_tokens": AHEAD_TOKENS, "step_timeout_s": TIMEOUT_S}
    settings = TransformersSettings(**(defaults | options))
    engine = TransformersEngine(str(folder), settings)
    try:
        await engine.start()
        yield engine
    finally:
        await engine.close()


async def answer(session: TransformersSession, declared: Prompt = TYPED) -> list[ReplyEvent]:
    return await rest(session.reply(declared, ReplyOptions(max_output_tokens=3)))


async def rest(reply: TransformersReply) -> list[ReplyEvent]:
    return [event async for event in reply]


async def let_time_pass(looks: int) -> None:
    """As much as `looks` at a worker take."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, LeapingLoop)
    for _ in range(looks):
        loop.leap(LOOK_S)
        # What is due by now comes after whoever is called already, as this is.
        for _ in range(2):
            await asyncio.sleep(0)


@pytest.mark.slow
def test_a_process_that_hangs_is_replaced(tiny_qwen2_audio: Path) -> None:
    async def main() -> None:
        async with running(tiny_qwen2_audio, worker="process") as engine:
            session, bystander = await engine.open_session(), await engine.open_session()
            whole = await answer(session)
            pid = engine.worker_pid
            assert pid is not None
            reply = session.reply(TYPED, HELD)
            begun = [await anext(reply) for _ in range(1 + AHEAD_TOKENS)]
            # It waits for its turn's end, and is alive: whoever asks gets an answer.
            for _ in range(3):
                await let_time_pass(LOOKS // 2)
                await bystander.count(TYPED)
            os.kill(pid, signal.SIGSTOP)
            # Not the worker's fault: this process was held up itself.
            loop = asyncio.get_running_loop()
            assert isinstance(loop, LeapingLoop)
            loop.leap(86_400)
            await let_time_pass(1)
            assert engine.worker_pid == pid
            asked = asyncio.create_task(answer(bystander))
            await let_time_pass(1 + LOOKS)
            for failing in (rest(reply), asked):
                with pytest.raises(EngineError, match="worker took no step for 30 s"):
                    await failing
            assert len(begun) == 1 + AHEAD_TOKENS
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)
            # The conversations live on, whole, with another worker.
            assert said(await answer(session)) == said(await answer(bystander)) == said(whole)
            assert engine.worker_pid not in (None, pid)

    run(main(), LeapingLoop)


def said(events: list[ReplyEvent]) -> list[ReplyEvent]:
    return events[1:-1]


@pytest.mark.slow
def test_on_a_cpu_a_step_may_take_for_ever(tiny_qwen2_audio: Path) -> None:
    async def main() -> None:
        async with running(tiny_qwen2_audio, worker="process", step_timeout_s="auto") as engine:
            session = await engine.open_session()
            await answer(session)
            pid = engine.worker_pid
            assert pid is not None
            os.kill(pid, signal.SIGSTOP)
            asked = asyncio.create_task(answer(session))
            await let_time_pass(10 * LOOKS)
            os.kill(pid, signal.SIGCONT)
            assert isinstance((await asked)[-1], Finished)
            assert engine.worker_pid == pid

    run(main(), LeapingLoop)


def test_a_thread_that_hangs_is_left_to_itself(
    tiny_qwen2_audio: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Here, since it takes seconds to import.
    from assistant.engines.transformers.generation import Generator

    hanging, go_on = threading.Event(), threading.Event()
    tokens_after = Generator.tokens_after

    def endless(self: Generator, generations: Any) -> list[int]:
        if not go_on.is_set() and not hanging.is_set():
            hanging.set()
            go_on.wait()
        return tokens_after(self, generations)

    async def main() -> None:
        async with running(tiny_qwen2_audio, worker="thread") as engine:
            session = await engine.open_session()
            # Not before: loading and warming up may take as long as they like.
            monkeypatch.setattr(Generator, "tokens_after", endless)
            asked = asyncio.create_task(answer(session))
            await asyncio.to_thread(hanging.wait)
            await let_time_pass(1 + LOOKS)
            with pytest.raises(EngineError, match="worker took no step for 30 s"):
                await asked
            assert isinstance((await answer(session))[-1], Finished)
            go_on.set()

    run(main(), LeapingLoop)
    for thread in threading.enumerate():
        if thread.name == "model worker":
            thread.join()
