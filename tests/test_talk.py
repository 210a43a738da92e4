"""The desktop assistant: human speech into a microphone, through PortAudio, and what is shown."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from itertools import groupby
from pathlib import Path

import pytest
from websockets.asyncio.server import ServerConnection, serve

from assistant.config import Config
from assistant.connection import Connection, connect_in_process, connect_to_server
from assistant.errors import EngineError, ServerError
from assistant.talk import converse, talk
from assistant.tasks import race
from assistant.view import Problem, Reply, Speech, View
from audio_io.errors import DeviceError
from audio_io.microphone import find_device, open_microphone
from audio_io.pcm import SILENCE_DBFS
from tests.answering_engine import AnsweringModel
from tests.server import serving
from tests.speech import prompt
from tests.test_connection import Connecting, both
from tests.virtual_microphone import VirtualMicrophone, virtual_microphone

pytestmark = pytest.mark.slow


class Watcher:
    """Looks at every view, and waits for what it wants to see."""

    def __init__(self) -> None:
        self.views: list[View] = []
        self._changed = asyncio.Event()

    def show(self, view: View) -> None:
        self.views.append(view)
        self._changed.set()

    async def sees(self, wanted: Callable[[View], bool]) -> None:
        while not (self.views and wanted(self.views[-1])):
            self._changed.clear()
            await self._changed.wait()

    async def sees_the_microphone(self) -> None:
        """Wait until everything is ready: what is said before that is lost."""
        await self.sees(lambda view: view.activity == "listening")


def last_text(view: View) -> str:
    return next((turn.text for turn in reversed(view.turns) if isinstance(turn, Reply)), "")


@both
async def test_a_conversation_with_an_interruption(connecting: Connecting) -> None:
    model = AnsweringModel(["One", " two", " three", ...], ["Good", " bye."])
    watcher = Watcher()

    async def person(room: VirtualMicrophone) -> None:
        await watcher.sees_the_microphone()
        await room.hears(prompt("hello-world"))
        await watcher.sees(lambda view: last_text(view) == "One two three")
        await room.hears(prompt("vm-goodbye"))
        await asyncio.Event().wait()

    with virtual_microphone() as room, open_microphone(find_device()) as microphone:
        async with connecting(model, Config()) as connection:
            await race(
                person=person(room),
                assistant=converse(connection, microphone, watcher.show, once=True),
            )

    view = watcher.views[-1]
    first, interrupted, second, answer = view.turns
    assert isinstance(interrupted, Reply) and isinstance(answer, Reply)
    assert (interrupted.text, interrupted.status) == ("One two three", "interrupted")
    assert (answer.text, answer.status) == ("Good bye.", "completed")
    for speech, name in ((first, "hello-world"), (second, "vm-goodbye")):
        assert isinstance(speech, Speech) and speech.duration_ms is not None
        # What is kept around the speech comes to it.
        assert 0 <= speech.duration_ms - len(prompt(name)) / 16 <= 800
    activities = [view.activity for view in watcher.views]
    changes = [activity for activity, _ in groupby(activities) if activity != "thinking"]
    assert changes == [
        *["connecting", "listening", "hearing", "listening", "replying"],
        *["hearing", "listening", "replying", "listening"],
    ]
    assert max(view.level_dbfs or SILENCE_DBFS for view in watcher.views) > -30
    assert view.lost_ms == 0


async def test_as_a_program_whose_output_is_no_terminal() -> None:
    with virtual_microphone() as room:
        async with serving(engine=AnsweringModel(["Good", " day."])) as address:
            command = ["-m", "assistant.cli", "talk", "--once", f"--url=ws://{address}"]
            program = await asyncio.create_subprocess_exec(
                sys.executable, *command, stdout=PIPE, stderr=PIPE
            )
            assert program.stderr is not None
            assert await program.stderr.readline() == b"Listening; scripted answers.\n"
            await room.hears(prompt("hello-world"))
            out, notes = await program.communicate()
    assert (program.returncode, out) == (0, b"Good day.\n")
    assert re.fullmatch(rb"You spoke for \d\.\d s\.\n", notes)


async def test_whoever_reads_the_output_has_had_enough(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("model: {embedded: {words: false, tokens_per_s: 5}}")
    with virtual_microphone() as room:
        reader, writer = os.pipe()
        command = ["-m", "assistant.cli", "talk", f"--config={config}"]
        program = await asyncio.create_subprocess_exec(
            sys.executable, *command, stdout=writer, stderr=PIPE
        )
        os.close(writer)
        assert program.stderr is not None
        assert await program.stderr.readline() == b"Listening; embedded answers.\n"
        await room.hears(prompt("hello-world"))
        assert await asyncio.to_thread(os.read, reader, 1)
        os.close(reader)
        _, notes = await program.communicate()
    assert program.returncode == 1
    assert re.fullmatch(rb"You spoke for \d\.\d s\.\n", notes)


async def test_a_signal_ends_it_and_the_cursor_comes_back() -> None:
    with virtual_microphone():
        async with serving(engine=AnsweringModel()) as address:
            terminal, line = os.openpty()
            command = ["-m", "assistant.cli", "talk", f"--url=ws://{address}"]
            program = await asyncio.create_subprocess_exec(
                *[sys.executable, *command],
                **dict.fromkeys(("stdin", "stdout", "stderr"), line),
                env=os.environ | {"TERM": "xterm"},
            )
            os.close(line)
            shown = b""
            while b"Listening" not in shown:
                shown += await asyncio.to_thread(os.read, terminal, 4096)
            program.terminate()
            # Linux has EIO for the end of a terminal.
            with suppress(OSError):
                while piece := await asyncio.to_thread(os.read, terminal, 4096):
                    shown += piece
            os.close(terminal)
            assert await program.wait() == 0
    hidden, shown_again = (shown.rfind(b"\x1b[?25" + end) for end in (b"l", b"h"))
    assert 0 <= hidden < shown_again
    assert b"Traceback" not in shown


async def test_the_sound_server_goes_and_comes_back_in_mid_conversation() -> None:
    model = AnsweringModel(["One."], ["Two."])
    watcher = Watcher()

    def notes(view: View) -> list[str]:
        return [turn.text for turn in view.turns if isinstance(turn, Problem)]

    async def person(room: VirtualMicrophone) -> None:
        await watcher.sees_the_microphone()
        await room.hears(prompt("hello-world"))
        await watcher.sees(lambda view: last_text(view) == "One.")
        room.breaks()
        await watcher.sees(lambda view: len(notes(view)) == 1)
        room.comes_back()
        await watcher.sees(lambda view: len(notes(view)) == 2)
        await room.hears(prompt("vm-goodbye"))
        await watcher.sees(lambda view: last_text(view) == "Two.")

    with virtual_microphone() as room, open_microphone(find_device()) as microphone:
        async with connect_in_process(model, Config()) as connection:
            await race(
                person=person(room),
                assistant=converse(connection, microphone, watcher.show),
            )

    view = watcher.views[-1]
    first, reply, gone, back, second, _ = view.turns
    assert isinstance(first, Speech) and isinstance(second, Speech)
    assert isinstance(reply, Reply) and reply.status == "completed"
    assert notes(view) == [gone.text, back.text]
    assert "is gone: it was unplugged, or the sound server has ended." in gone.text
    assert back.text.endswith("records again.")
    # Said once, not at every attempt; and the clock went on meanwhile.
    lost = {view.lost_ms for view in watcher.views}
    assert lost == {0, view.lost_ms} and view.lost_ms > 0
    assert first.duration_ms is not None
    assert second.start_ms > first.start_ms + first.duration_ms + view.lost_ms


async def test_a_server_that_goes_ends_it() -> None:
    async def leave(websocket: ServerConnection) -> None:
        await websocket.recv()
        await websocket.close(1012, "restarting")

    with virtual_microphone(), open_microphone(find_device()) as microphone:
        async with serve(leave, "127.0.0.1", 0) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            async with connect_to_server(f"ws://127.0.0.1:{port}") as connection:
                with pytest.raises(ServerError, match="broke off: restarting"):
                    await converse(connection, microphone, lambda view: None)


async def test_a_microphone_that_can_not_be_opened() -> None:
    model = AnsweringModel()

    @asynccontextmanager
    async def meanwhile_it_goes(room: VirtualMicrophone) -> AsyncIterator[Connection]:
        async with connect_in_process(model, Config()) as connection:
            room.breaks()
            yield connection

    with virtual_microphone() as room, pytest.raises(DeviceError, match="can't be"):
        await talk(meanwhile_it_goes(room))
    # As an engine and as its session.
    assert model.times_closed == 2


async def test_the_one_answer_that_is_wanted_fails() -> None:
    watcher = Watcher()

    async def person(room: VirtualMicrophone) -> None:
        await watcher.sees_the_microphone()
        await room.hears(prompt("hello-world"))
        await asyncio.Event().wait()

    model = AnsweringModel([EngineError("out of memory")])
    with virtual_microphone() as room, open_microphone(find_device()) as microphone:
        async with connect_in_process(model, Config()) as connection:
            with pytest.raises(EngineError, match="out of memory"):
                await race(
                    person=person(room),
                    assistant=converse(connection, microphone, watcher.show, once=True),
                )


async def test_the_session_ends_before_the_one_answer_that_is_wanted() -> None:
    config = Config.load(overrides={"limits": {"max_session_s": 1}})
    told = pytest.raises(ServerError, match="ended before there was a reply")
    with virtual_microphone(), told:
        await talk(connect_in_process(AnsweringModel(), config), once=True)


async def test_without_the_microphone_no_model_is_loaded() -> None:
    model = AnsweringModel()
    with virtual_microphone(), pytest.raises(DeviceError, match="No input device matching"):
        await talk(connect_in_process(model, Config()), device="nonsense")
    assert model.times_started == 0
