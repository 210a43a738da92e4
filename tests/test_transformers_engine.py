"""The engine as conversations use it: in a thread, and in a process that may die."""

from __future__ import annotations

import asyncio
import gc
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assistant.engines.engine import (
    EngineInfo,
    Finished,
    ModelSession,
    PrefillReport,
    Reply,
    ReplyEvent,
    ReplyOptions,
    Started,
    Text,
    TokenCount,
)
from assistant.engines.transformers import TransformersEngine, TransformersSettings
from assistant.engines.transformers.channel import packed
from assistant.engines.transformers.messages import Load
from assistant.errors import EngineError
from assistant.prompt import Message, Prompt
from audio_io.pcm import SAMPLE_RATE_HZ
from tests import speech
from tests.dialogue import assistant, prompt, system, user
from tests.model_card import ModelCard

TEN = ReplyOptions(max_output_tokens=10)
# A reply that waits at its bound is certainly unfinished.
HELD = ReplyOptions(speculative=True)
BOUND_TOKENS = 4


@pytest.fixture(scope="module")
def card(tiny_qwen2_audio: Path) -> ModelCard:
    return ModelCard(tiny_qwen2_audio)


@asynccontextmanager
async def running(folder: Path, **options: Any) -> AsyncIterator[TransformersEngine]:
    defaults = {"device": "cpu", "worker": "thread", "decode_ahead_tokens": BOUND_TOKENS}
    engine = TransformersEngine(str(folder), TransformersSettings(**(defaults | options)))
    try:
        await engine.start()
        yield engine
    finally:
        await engine.close()


@pytest.fixture
async def engine(tiny_qwen2_audio: Path) -> AsyncIterator[TransformersEngine]:
    async with running(tiny_qwen2_audio) as engine:
        yield engine


@pytest.fixture
async def session(engine: TransformersEngine) -> ModelSession:
    return await engine.open_session()


async def answer(
    session: ModelSession, prompt: Prompt, options: ReplyOptions = TEN, *, side: bool = False
) -> str:
    return text([event async for event in session.reply(prompt, options, side=side)])


def text(events: list[ReplyEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, Text))


async def take(reply: Reply, count: int) -> list[ReplyEvent]:
    """The next `count` events."""
    events = aiter(reply)
    return [await anext(events) for _ in range(count)]


def spoken() -> Prompt:
    return prompt(user(speech.prompt("hello-world")))


async def test_what_the_engine_says_of_itself(engine: TransformersEngine) -> None:
    assert engine.info == EngineInfo(
        model="tiny-qwen2-audio",
        context_tokens=8192,
        device=engine.info.device,
        max_audio_s=30.0,
        modes=frozenset({"voice_chat", "audio_analysis", "text"}),
    )
    assert re.fullmatch(r"cpu in float32, which keeps \d+ conversations of .+", engine.info.device)


async def test_a_conversation_by_voice_and_keyboard(session: ModelSession, card: ModelCard) -> None:
    turns = [
        user(speech.prompt("hello-world")),
        user("What did I say?"),
        user(speech.phrase("Front_Left"), "Where?"),
        user("Compare: ", speech.phrase("Side_Right"), speech.phrase("Side_Left")),
    ]
    said: list[Message] = [system("Be brief.")]
    for turn in turns:
        declared = prompt(*said, turn)
        events = [event async for event in session.reply(declared, TEN)]
        assert isinstance(events[0], Started)
        assert isinstance(events[-1], Finished)
        assert events[0].report.prompt == events[-1].usage.input == await session.count(declared)
        assert text(events) == card.reply(declared, 10)
        ids = tuple(id_ for event in events if isinstance(event, Text) for id_ in event.ids)
        said += [turn, assistant(text(events), ids)]


async def test_prefill_says_that_nothing_is_kept(session: ModelSession, card: ModelCard) -> None:
    count = await session.count(spoken())
    assert count.total == len(card.prompt_ids(spoken()))
    assert await session.prefill(spoken()) == PrefillReport(count, reused=TokenCount())


async def test_a_cancelled_reply_ends_without_finishing(
    session: ModelSession, card: ModelCard
) -> None:
    reply = session.reply(spoken(), ReplyOptions())
    assert [type(event) for event in await take(reply, 4)] == [Started, Text, Text, Text]
    await reply.cancel()
    await reply.cancel()
    assert [event async for event in reply] == []
    assert await answer(session, spoken()) == card.reply(spoken(), 10)


async def test_a_cancelled_reply_says_nothing_more(
    engine: TransformersEngine, session: ModelSession
) -> None:
    reply = session.reply(spoken(), HELD)
    assert [type(event) for event in await take(reply, 1)] == [Started]
    # By the time that this is answered, the first token has come.
    await answer(await engine.open_session(), spoken())
    await reply.cancel()
    assert [event async for event in reply] == []


async def test_audio_that_was_dropped_may_come_back(session: ModelSession, card: ModelCard) -> None:
    typed = prompt(user("Typed."))
    for declared in (spoken(), typed, spoken()):
        assert await answer(session, declared) == card.reply(declared, 10)


async def test_a_reply_may_be_cancelled_before_it_begins(session: ModelSession) -> None:
    reply = session.reply(spoken(), TEN)
    await reply.cancel()
    assert [event async for event in reply] == []


async def test_a_task_that_awaits_a_reply_can_be_cancelled(
    session: ModelSession, card: ModelCard
) -> None:
    reply = session.reply(spoken(), HELD)
    events: list[ReplyEvent] = []
    at_bound = asyncio.Event()

    async def listen() -> None:
        async for event in reply:
            events.append(event)
            if len(events) == 1 + BOUND_TOKENS:
                at_bound.set()

    listening = asyncio.create_task(listen())
    await at_bound.wait()
    listening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await listening
    await reply.cancel()
    assert len(events) == 1 + BOUND_TOKENS
    assert await answer(session, spoken()) == card.reply(spoken(), 10)


async def test_speculation_stops_at_its_bound_until_it_is_committed(
    engine: TransformersEngine, session: ModelSession, card: ModelCard
) -> None:
    reply = session.reply(spoken(), ReplyOptions(max_output_tokens=10, speculative=True))
    ahead = await take(reply, 1 + BOUND_TOKENS)
    # Others are answered meanwhile, with all their tokens.
    assert await answer(await engine.open_session(), spoken()) == card.reply(spoken(), 10)
    reply.commit()
    rest = [event async for event in reply]
    assert text(ahead) + text(rest) == card.reply(spoken(), 10)
    assert len(text(ahead)) == BOUND_TOKENS


async def test_a_new_reply_takes_the_place_of_the_unfinished_one(
    session: ModelSession, card: ModelCard
) -> None:
    first = session.reply(spoken(), HELD)
    await take(first, 2)
    typed = prompt(user("Typed."))
    assert await answer(session, typed) == card.reply(typed, 10)
    assert [event async for event in first] == []


async def test_side_replies_run_beside_the_main_one(session: ModelSession, card: ModelCard) -> None:
    main = session.reply(spoken(), ReplyOptions(max_output_tokens=20))
    begun = await take(main, 3)
    aside = prompt(user(speech.phrase("Front_Left"), "Repeat that."))
    assert await answer(session, aside, side=True) == card.reply(aside, 10)
    rest = [event async for event in main]
    assert text(begun + rest) == card.reply(spoken(), 20)


async def test_conversations_do_not_mix(engine: TransformersEngine, card: ModelCard) -> None:
    prompts = [
        prompt(user(sound, "What?"))
        for sound in map(speech.phrase, ("Front_Left", "Front_Right", "Rear_Left", "Rear_Right"))
    ]
    sessions = [await engine.open_session() for _ in prompts]
    answers = await asyncio.gather(*map(answer, sessions, prompts))
    assert answers == [card.reply(declared, 10) for declared in prompts]


async def test_audio_out_of_bounds(session: ModelSession, card: ModelCard) -> None:
    too_long = np.zeros(30 * SAMPLE_RATE_HZ + 160, np.int16)
    with pytest.raises(EngineError, match="several parts"):
        await answer(session, prompt(user(too_long)))
    with pytest.raises(EngineError, match="several parts"):
        await session.count(prompt(user(too_long)))
    click = speech.prompt("hello-world")[4000:4800]
    padded = np.pad(click, (0, 800))
    assert await answer(session, prompt(user(click))) == card.reply(prompt(user(padded)), 10)


async def test_a_closed_session_answers_no_more(session: ModelSession) -> None:
    reply = session.reply(spoken(), HELD)
    await take(reply, 2)
    await session.close()
    await session.close()
    assert not any(isinstance(event, Finished) for event in [event async for event in reply])
    with pytest.raises(EngineError, match="closed"):
        await answer(session, spoken())


async def test_whoever_waits_for_a_worker_is_told_that_the_engine_closes(
    tiny_qwen2_audio: Path,
) -> None:
    settings = TransformersSettings(device="cpu", worker="thread")
    engine = TransformersEngine(str(tiny_qwen2_audio), settings)
    waiting = asyncio.create_task(answer(await engine.open_session(), spoken()))
    await asyncio.sleep(0)
    await engine.close()
    with pytest.raises(EngineError, match="engine is closed"):
        await waiting


async def test_a_thread_leaves_nothing_behind(tiny_qwen2_audio: Path) -> None:
    def left() -> tuple[int, set[asyncio.Task[Any]]]:
        return threading.active_count(), asyncio.all_tasks()

    # Whatever the libraries and the event loop start once for all is there from now on.
    async with running(tiny_qwen2_audio):
        pass
    before = left()
    async with running(tiny_qwen2_audio) as engine:
        for _ in range(20):
            session = await engine.open_session()
            reply = session.reply(spoken(), HELD)
            await take(reply, 2)
            await reply.cancel()
            await session.close()
        abandoned = (await engine.open_session()).reply(spoken(), HELD)
        await take(abandoned, 2)
    with pytest.raises(EngineError):
        async for _ in abandoned:
            pass
    with pytest.raises(EngineError, match="closed"):
        await answer(await engine.open_session(), spoken())
    assert left() == before


@pytest.mark.slow
async def test_a_worker_process_that_is_killed_fails_its_replies_and_is_started_again(
    tiny_qwen2_audio: Path, tmp_path: Path, card: ModelCard
) -> None:
    folder = shutil.copytree(tiny_qwen2_audio, tmp_path / "checkpoint")
    async with running(folder, worker="process") as engine:
        session, bystander = await engine.open_session(), await engine.open_session()
        first = await answer(session, spoken())
        assert first == card.reply(spoken(), 10)
        goes_on = prompt(*spoken().messages, assistant(first), user(speech.prompt("goodbye")))
        pid = engine.worker_pid
        await kill_in_mid_reply(engine, session.reply(goes_on, HELD))
        # The conversations live on, whole, with another worker.
        assert await answer(session, goes_on) == card.reply(goes_on, 10)
        assert await answer(bystander, spoken()) == first
        assert engine.worker_pid not in (None, pid)
        # What stands in the way of that is told to whoever asks.
        (folder / "model.safetensors").unlink()
        await kill_in_mid_reply(engine, session.reply(goes_on, HELD))
        with pytest.raises(EngineError, match=r"has no model\.safetensors"):
            await answer(session, goes_on)
        assert engine.worker_pid is None


async def kill_in_mid_reply(engine: TransformersEngine, reply: Reply) -> None:
    await take(reply, 1 + BOUND_TOKENS)
    pid = engine.worker_pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(EngineError, match="worker was ended by SIGKILL"):
        async for _ in reply:
            pass
    await reply.cancel()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.slow
async def test_a_conversation_ends_at_once_though_the_worker_is_busy(
    tiny_qwen2_audio: Path,
) -> None:
    async with running(tiny_qwen2_audio, worker="process") as engine:
        session = await engine.open_session()
        reply = session.reply(spoken(), HELD)
        await take(reply, 1 + BOUND_TOKENS)
        assert engine.worker_pid is not None
        os.kill(engine.worker_pid, signal.SIGSTOP)
        await session.close()
        await reply.cancel()
        assert [event async for event in reply] == []
        os.kill(engine.worker_pid, signal.SIGCONT)
        # Nobody is told what the worker still says to that.
        assert await answer(await engine.open_session(), spoken())


@pytest.mark.slow
def test_a_worker_ends_with_whom_it_works_for_though_it_is_loading(tiny_qwen2_audio: Path) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        worker = subprocess.Popen(
            [sys.executable, "-m", "assistant.engines.transformers", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stderr=subprocess.PIPE,
        )
    with ours:
        ours.sendall(packed(Load(str(tiny_qwen2_audio), TransformersSettings(device="cpu"))))
    _, log = worker.communicate(timeout=60)
    assert (worker.returncode, log) == (0, b"")


@pytest.mark.slow
async def test_the_worker_is_made_of_the_modules_that_we_have(
    tiny_qwen2_audio: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("torch", "random", "assistant"):
        (tmp_path / f"{module}.py").write_text("raise SystemExit('not this one')")
    monkeypatch.chdir(tmp_path)
    async with running(tiny_qwen2_audio, worker="process") as engine:
        assert await answer(await engine.open_session(), spoken())


def test_a_server_whose_worker_is_a_process_never_imports_torch() -> None:
    code = "import sys, assistant.engines.transformers; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def join_workers() -> None:
    """A thread that was given up while it loads ends by itself."""
    for thread in threading.enumerate():
        if thread.name == "model worker":
            thread.join()


async def test_nobody_waits_for_a_load_that_is_given_up(
    tiny_qwen2_audio: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loading, go_on = threading.Event(), threading.Event()

    def endless(message: Load) -> object:
        loading.set()
        go_on.wait()
        raise EngineError("too late")

    monkeypatch.setattr("assistant.engines.transformers.worker._load", endless)
    settings = TransformersSettings(device="cpu", worker="thread")
    engine = TransformersEngine(str(tiny_qwen2_audio), settings)
    start = asyncio.create_task(engine.start())
    await asyncio.to_thread(loading.wait)
    start.cancel()
    await engine.close()
    go_on.set()
    join_workers()


@pytest.mark.parametrize("moments", [1, 2, 3, 5, 10, 100])
@pytest.mark.parametrize("worker", ["thread", "process"])
async def test_a_start_that_is_given_up_leaves_nothing(
    tiny_qwen2_audio: Path, worker: Any, moments: int
) -> None:
    settings = TransformersSettings(device="cpu", worker=worker)
    engine = TransformersEngine(str(tiny_qwen2_audio), settings)
    start = asyncio.create_task(engine.start())
    for _ in range(moments):
        await asyncio.sleep(0)
    start.cancel()
    await asyncio.wait([start])
    await engine.close()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    join_workers()
    # A socket or a process that was left open would warn, which is an error here.
    gc.collect()
