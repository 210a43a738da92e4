"""The command as a person runs it: what goes wrong is one line, and Ctrl-C is the end."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE
from tempfile import TemporaryFile

import httpx
import pytest
from playwright.async_api import expect
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from assistant.serve import listen
from tests.browser import open_page
from tests.dialogue import prompt, user
from tests.hub import MODEL, hub
from tests.model_card import ModelCard
from tests.speech import join, phrase, silence, write_wav
from tests.speech import prompt as speech

ASSISTANT = [sys.executable, "-m", "assistant"]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*ASSISTANT, *arguments], capture_output=True, text=True, check=False, timeout=60
    )


@contextmanager
def serving(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`assistant serve` with the address that it announces; its log may hold no traceback."""
    with (
        TemporaryFile("w+") as log,
        subprocess.Popen(
            [*ASSISTANT, "serve", "--port=0", *arguments],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        ) as process,
    ):
        assert process.stdout is not None
        try:
            yield process, process.stdout.readline().partition("http://")[2].split()[0]
        finally:
            process.terminate()
            process.wait(timeout=10)
        log.seek(0)
        assert "Traceback" not in log.read()


@pytest.fixture
def hello(tmp_path: Path) -> Path:
    return write_wav(tmp_path / "hello.wav", speech("hello-world"))


@pytest.fixture
def slowly(tmp_path: Path) -> Path:
    """A configuration by which an answer takes half a minute."""
    config = tmp_path / "config.yaml"
    config.write_text("model: {embedded: {words: false, tokens_per_s: 1}}")
    return config


@contextmanager
def answering(
    command: str, file: Path, config: Path, *launcher: str
) -> Iterator[subprocess.Popen[str]]:
    """`assistant ask` or `assistant selftest`, which has begun to write."""
    arguments = [str(file)] if command == "ask" else []
    with subprocess.Popen(
        [*launcher, *ASSISTANT, command, f"--config={config}", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=PIPE,
        stderr=PIPE,
        text=True,
    ) as program:
        assert program.stdout is not None
        try:
            assert program.stdout.read(1)
            yield program
        finally:
            program.kill()


def test_small_messages_do_not_wait_for_acknowledgements() -> None:
    with listen("127.0.0.1", 0) as listener:
        with socket.create_connection(listener.getsockname()):
            connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.slow
def test_a_port_that_is_taken_is_one_clear_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        result = run("serve", "--port", str(port))
    assert result.returncode == 1
    assert f"can't listen on 127.0.0.1, port {port}: Address already in use" in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["serve", "--config", "nowhere.yaml"], "nowhere.yaml can't be read"),
        (["serve", "--port", "70000"], "server.port: 70000 is not allowed"),
        (["serve", "--engine", "best"], "model.engine: 'best' is not allowed"),
        (["serve", "--host", "0.0.0.0"], "there is no API key"),
        (["serve", "--api-key", "a", "--open-to-all"], "leave one out"),
        (["serve", "--api-key-file", "nowhere"], "nowhere can't be read"),
        (["serve", "--max-sessions", "0"], "limits.max_sessions: 0 is not allowed"),
        (["serve", "--allow-origin", "a.example"], "'a.example' is not allowed"),
        (["serve", "--host", "192.0.2.1", "--api-key", "k"], "Name an address of this machine"),
        (["serve", "--tls-cert", "a", "--tls-key", "b"], "a can't be read: No such file"),
        (["talk", "--engine", "transformers"], "needs a model"),
        (["talk", "--url", "ws://127.0.0.1:1", "--model", "x"], "leave out --model"),
        (["talk", "--url", "ws://a", "--config", "x", "--engine", "y"], "--config and --engine"),
        (["talk", "--api-key", "k"], "give its address too, by --url"),
        (["talk", "--url", "nonsense", "--device", "none"], "'nonsense' is no address of a server"),
        (["talk", "--url", "ws://127.0.0.1:1", "--device", "none"], "can't be reached"),
        (["ask", "any.wav", os.fsdecode(b"\xff")], "The question can't be read: it is not UTF-8."),
        (["ask", "nowhere.wav"], "nowhere.wav can't be read: No such file"),
        (["selftest", "--engine", "embedded", "--model", "x"], "no use for the model x"),
    ],
)
def test_a_mistake_is_one_clear_line(arguments: list[str], text: str) -> None:
    result = run(*arguments)
    assert result.returncode == 1
    assert text in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.slow
def test_a_key_for_the_server_is_no_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSISTANT_API_KEY", "k")
    assert "needs a model" in run("talk", "--engine", "transformers").stderr


@pytest.mark.slow
def test_the_version() -> None:
    result = run("--version")
    assert (result.returncode, result.stderr) == (0, "")
    assert re.fullmatch(r"assistant \d+\.\d+\.\d+\n", result.stdout)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux's")
def test_output_that_can_not_be_written(hello: Path) -> None:
    for command in (["ask", str(hello)], ["selftest"]):
        with open("/dev/full", "w") as full:
            result = subprocess.run(
                [*ASSISTANT, *command], stdout=full, stderr=PIPE, text=True, check=False, timeout=60
            )
        assert result.returncode == 1
        assert result.stderr == "assistant: No space left on device\n"


@pytest.mark.slow
@pytest.mark.parametrize("command", ["ask", "selftest"])
def test_whoever_reads_the_output_has_had_enough(command: str, hello: Path, slowly: Path) -> None:
    with answering(command, hello, slowly) as program:
        assert program.stdout is not None and program.stderr is not None
        program.stdout.close()
        assert program.stderr.read() == ""
        assert program.wait(timeout=30) == 1


@pytest.mark.slow
@pytest.mark.parametrize("command", ["ask", "selftest"])
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_an_answer(
    command: str, end: signal.Signals, hello: Path, slowly: Path
) -> None:
    with answering(command, hello, slowly) as program:
        program.send_signal(end)
        _, notes = program.communicate(timeout=30)
    assert (program.returncode, notes) == (130, "")


@pytest.mark.slow
@pytest.mark.parametrize("source", ["a pipe", "-"])
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_wait_for_a_recording(
    source: str, end: signal.Signals, tmp_path: Path
) -> None:
    pipe = tmp_path / "a pipe"
    os.mkfifo(pipe)
    command = [*ASSISTANT, "ask", source if source == "-" else str(pipe), "What is it?"]
    with subprocess.Popen(command, stdin=PIPE, stdout=PIPE, stderr=PIPE, text=True) as program:
        try:
            assert program.stdin is not None
            # Either waits until somebody reads it: the standard input, with more than it buffers.
            with program.stdin if source == "-" else pipe.open("w") as recording:
                recording.write("no sound" * 2**14)
                recording.flush()
                program.send_signal(end)
                assert program.wait(timeout=30) == 130
        finally:
            program.kill()
        assert program.stdout is not None and program.stderr is not None
        assert (program.stdout.read(), program.stderr.read()) == ("", "")


@pytest.mark.slow
def test_ctrl_c_ends_the_start() -> None:
    # So that it tells what it imports.
    command = [sys.executable, "-X", "importtime", *ASSISTANT[1:], "devices"]
    with subprocess.Popen(command, stdout=PIPE, stderr=PIPE, text=True) as program:
        assert program.stderr is not None
        assert any("numpy" in line for line in program.stderr)
        program.send_signal(signal.SIGINT)
        out, log = program.communicate(timeout=30)
    assert (program.returncode, out) == (130, "")
    assert "Traceback" not in log


@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_loading_of_a_model_and_its_worker(
    end: signal.Signals, tiny_qwen2_audio: Path, hello: Path
) -> None:
    command = [*ASSISTANT, "ask", "--model", str(tiny_qwen2_audio), str(hello)]
    with subprocess.Popen(command, stdout=PIPE, stderr=PIPE, text=True) as program:
        assert program.stderr is not None
        assert program.stderr.readline() == f"Loading {tiny_qwen2_audio} ...\n"
        program.send_signal(end)
        # The worker has the same standard error, which ends when both have.
        assert program.communicate(timeout=30) == ("", "")
    assert program.returncode == 130


@pytest.mark.slow
def test_without_a_terminal_it_goes_on_where_that_is_wanted(hello: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("model: {embedded: {words: false, tokens_per_s: 20}}")
    with answering("ask", hello, config, "nohup") as program:
        program.send_signal(signal.SIGHUP)
        answer, _ = program.communicate(timeout=30)
    assert program.returncode == 0
    assert answer.endswith(".\n")


@pytest.mark.slow
def test_a_model_answers_a_file_and_a_question_about_it(
    tiny_qwen2_audio: Path, tmp_path: Path
) -> None:
    card = ModelCard(tiny_qwen2_audio)
    file = write_wav(tmp_path / "side.wav", phrase("Side_Left"))
    for question in ([], ["Which side?"]):
        result = run("ask", "--model", str(tiny_qwen2_audio), str(file), *question)
        expected = card.reply(prompt(user(phrase("Side_Left"), *question)), 1024)
        assert (result.returncode, result.stdout) == (0, expected + "\n")
        # Which transformers imports wherever it is installed.
        assert "torchao" not in result.stderr


@pytest.mark.slow
def test_a_model_is_downloaded_though_the_connection_breaks(
    tiny_qwen2_audio: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(tiny_qwen2_audio, tmp_path / "offered")
    # The library goes on from where it was in steps of 10 MB.
    (folder / "ballast.safetensors").write_bytes(bytes(24_000_000))
    file = write_wav(tmp_path / "side.wav", phrase("Side_Left"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    with hub(folder) as offered:
        offered.breaks_off = "ballast.safetensors"
        monkeypatch.setenv("HF_ENDPOINT", offered.url)
        result = run("ask", "--model", MODEL, str(file))
    expected = ModelCard(tiny_qwen2_audio).reply(prompt(user(phrase("Side_Left"))), 1024)
    assert (result.returncode, result.stdout) == (0, expected + "\n")
    assert offered.ranges == [("ballast.safetensors", "bytes=10485760-")]
    assert "Fetching 8 files" in result.stderr


@pytest.mark.slow
def test_the_selftest_shows_answers_and_speed(tiny_qwen2_audio: Path) -> None:
    result = run("selftest", "--model", str(tiny_qwen2_audio))
    assert result.returncode == 0
    report = r"first token after \d+\.\d{3} s, then \d+\.\d tokens/s; \d+ tokens in, \d+ out"
    assert len(re.findall(report, result.stdout)) == 3


@pytest.mark.slow
def test_what_keeps_a_model_from_answering_is_said_at_the_start(tmp_path: Path) -> None:
    result = run("serve", "--port", "0", "--model", str(tmp_path))
    assert result.returncode == 1
    assert "is not a whole checkpoint: it has no config.json" in result.stderr
    assert "Listening" not in result.stdout


@pytest.mark.slow
async def test_a_model_holds_a_spoken_conversation_in_the_browser(
    tiny_qwen2_audio: Path, tmp_path: Path
) -> None:
    card = ModelCard(tiny_qwen2_audio)
    sound = write_wav(tmp_path / "person.wav", join(silence(4000), speech("hello-world")))
    with serving(f"--model={tiny_qwen2_audio}") as (_, address):
        async with open_page(f"http://{address}", microphone=sound) as page:
            await page.get_by_role("button", name="Start").click()
            # Heard through Opus, so nobody can say which tokens it ought to answer.
            completed = page.locator(".reply[data-status=completed]")
            await expect(completed).to_have_count(1, timeout=30_000)
            await expect(page.locator("#model")).to_contain_text("tiny-qwen2-audio")
            await expect(page.locator(".speech")).to_have_count(1)
            assert await completed.locator(".text").inner_text()
            # A new call is a new conversation, in which text has but one answer.
            await page.get_by_role("button", name="End", exact=True).click()
            await page.get_by_role("button", name="Start").click()
            await page.get_by_label("Message").fill("Are you there?")
            await page.get_by_label("Message").press("Enter")
            await expect(completed).to_have_count(2, timeout=30_000)
            answer = await completed.last.locator(".text").text_content()
            expected = card.reply(prompt(user("Are you there?")), 1024)
            # The name before it is for screen readers.
            assert answer == f"Assistant: {expected}"


@pytest.mark.slow
def test_options_say_who_may_come_in_and_how_many(tmp_path: Path) -> None:
    config, keys = tmp_path / "config.yaml", tmp_path / "keys"
    config.write_text("server: {allowed_origins: ['https://file.example']}")
    keys.write_text("second\n")
    options = [f"--config={config}", f"--api-key-file={keys}", "--max-sessions=1"]
    for origins in (["https://file.example"], ["https://a.example", "https://b.example"]):
        own = [f"--allow-origin={origin}" for origin in origins if "file" not in origin]
        with serving(*options, "--api-key=first,third", *own) as (_, address):
            for key in ("first", "second", "third"):
                headers = {"Authorization": f"Bearer {key}"}
                for origin in origins:
                    page = {**headers, "Origin": origin}
                    assert httpx.get(f"http://{address}/metrics", headers=page).is_success
            url = f"ws://{address}/v1/realtime"
            with connect(url, additional_headers=headers) as only:
                only.recv()
                with pytest.raises(InvalidStatus, match="503"):
                    connect(url, additional_headers=headers)
            with pytest.raises(InvalidStatus, match="401"):
                connect(url)
            other = {"Origin": "https://other.example"}
            assert httpx.get(f"http://{address}/health", headers=other).status_code == 403


@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_in_the_middle_of_a_conversation(end: signal.Signals) -> None:
    with serving() as (server, address):
        assert httpx.get(f"http://{address}/health").json()["status"] == "ok"
        with connect(f"ws://{address}/v1/realtime") as websocket:
            assert "session.created" in str(websocket.recv())
            server.send_signal(end)
            server.wait(timeout=10)
    assert server.returncode in (0, -end)
