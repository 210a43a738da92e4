"""The command as a person runs it: what goes wrong is one line, and Ctrl-C is the end."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from websockets.sync.client import connect

from assistant.serve import listen

ASSISTANT = [sys.executable, "-m", "assistant.cli"]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*ASSISTANT, *arguments], capture_output=True, text=True, check=False, timeout=60
    )


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
        (["--config", "nowhere.yaml"], "nowhere.yaml can't be read"),
        (["--port", "70000"], "server.port: 70000 is not allowed"),
        (["--engine", "best"], "model.engine: 'best' is not allowed"),
        (["--host", "0.0.0.0"], "there is no API key"),
    ],
)
def test_a_broken_configuration_is_one_clear_line(arguments: list[str], text: str) -> None:
    result = run("serve", *arguments)
    assert result.returncode == 1
    assert text in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_in_the_middle_of_a_conversation(end: signal.Signals) -> None:
    with subprocess.Popen(
        [*ASSISTANT, "serve", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent.parent,
    ) as server:
        assert server.stdout is not None and server.stderr is not None
        address = server.stdout.readline().partition("http://")[2].split()[0]
        assert httpx.get(f"http://{address}/health").json()["status"] == "ok"
        with connect(f"ws://{address}/v1/realtime") as websocket:
            assert "session.created" in str(websocket.recv())
            server.send_signal(end)
            server.wait(timeout=10)
        assert "Traceback" not in server.stderr.read()
        assert server.returncode in (0, -end)
