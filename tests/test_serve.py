"""The server as other machines meet it: over TLS, at an address that they can open."""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import ssl
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import connect

from assistant.config import Config, ServerConfig
from assistant.errors import ConfigError
from assistant.serve import announce, find_certificate, listen, run_server
from assistant.tls import self_signed
from tests.answering_engine import AnsweringModel
from tests.server import serving


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the server keeps its certificate."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path / "streaming-voice-assistant"


@pytest.mark.slow
async def test_the_page_and_the_protocol_over_tls() -> None:
    config = Config.load(overrides={"server": {"tls_self_signed": True, "api_key": "secret"}})
    certificate = find_certificate(config.server)
    assert certificate is not None
    trusting = ssl.create_default_context(cafile=certificate.certificate)
    async with serving(config, certificate=certificate) as address:
        async with httpx.AsyncClient(verify=trusting, base_url=f"https://{address}") as client:
            assert "<title>" in (await client.get("/")).text
            assert (await client.get("/metrics")).status_code == 401
        headers = {"Authorization": "Bearer secret"}
        url = f"wss://{address}/v1/realtime"
        async with connect(url, ssl=trusting, additional_headers=headers) as websocket:
            assert "session.created" in str(await websocket.recv())


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this system has no IPv6")
def test_all_addresses_are_those_of_both_protocols() -> None:
    with listen("::", 0) as listener:
        port = listener.getsockname()[1]
        for host in ("127.0.0.1", "::1"):
            socket.create_connection((host, port)).close()


def test_without_tls_there_is_no_certificate(state: Path) -> None:
    assert find_certificate(ServerConfig()) is None
    assert not state.exists()


def test_files_that_are_named_are_taken_when_they_fit(tmp_path: Path) -> None:
    files = self_signed(tmp_path / "own", {"desk.local"}, datetime.now(UTC))
    named = ServerConfig(tls_cert=files.certificate, tls_key=files.key)
    assert find_certificate(named) == files
    with pytest.raises(ConfigError, match="holds no private key"):
        find_certificate(ServerConfig(tls_cert=files.certificate, tls_key=files.certificate))


@pytest.mark.parametrize(
    ("config", "lines"),
    [
        (
            ServerConfig(),
            ["Listening on http://127.0.0.1:80 - open it in a browser and talk. Ctrl-C ends."],
        ),
        (
            ServerConfig(host="192.168.1.5", api_key="k"),
            [
                "Listening on http://192.168.1.5:80 - open it in a browser and talk. Ctrl-C ends.",
                "Beyond this machine, browsers give the microphone only to https pages: add "
                "--tls-self-signed, or --tls-cert and --tls-key.",
            ],
        ),
        (
            ServerConfig(host="192.168.1.5", api_key="k", tls_self_signed=True),
            [
                "Listening on https://192.168.1.5:80 - open it in a browser and talk. Ctrl-C ends.",
                "The certificate is this machine's own: a browser asks once whether to go on.",
            ],
        ),
    ],
)
def test_the_address_to_open(
    config: ServerConfig, lines: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    announce(config, port=80)
    assert capsys.readouterr().out.splitlines() == lines


@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("busy", [False, True])
def test_the_worker_ends_with_the_server(
    tiny_qwen2_audio: Path, end: signal.Signals, busy: bool
) -> None:
    command = [sys.executable, "-m", "assistant.cli", "serve", "--port=0"]
    with subprocess.Popen(
        [*command, f"--model={tiny_qwen2_audio}"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as server:
        assert server.stdout is not None
        assert b"Listening" in server.stdout.readline()
        (worker,) = children(server.pid)
        handle = os.pidfd_open(worker)
        if busy:
            os.kill(worker, signal.SIGSTOP)
        server.send_signal(end)
        assert server.wait(timeout=30) == 0
    ended, _, _ = select.select([handle], [], [], 0)
    assert ended
    os.close(handle)


@pytest.mark.slow
def test_the_server_can_be_ended_while_it_loads(tiny_qwen2_audio: Path) -> None:
    command = [sys.executable, "-m", "assistant.cli", "serve", "--port=0"]
    with subprocess.Popen(
        [*command, f"--model={tiny_qwen2_audio}"], stderr=subprocess.PIPE
    ) as server:
        assert server.stderr is not None
        log = server.stderr.readline()
        while not (workers := children(server.pid)):
            pass
        server.send_signal(signal.SIGTERM)
        assert server.wait(timeout=30) == 0
        assert not any(Path(f"/proc/{worker}").exists() for worker in workers)
        log += server.stderr.read()
    assert b"Traceback" not in log


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_the_server_can_be_ended_as_it_begins_to_listen(
    end: signal.Signals, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("assistant.serve.announce", lambda config, port: os.kill(os.getpid(), end))
    try:
        run_server(Config.load(overrides={"server": {"port": 0}}), AnsweringModel())
    finally:
        # It spares itself the collection of what there is when it begins: here, all other tests'.
        gc.unfreeze()
    assert capsys.readouterr().err == ""


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    path = Path(f"/proc/{pid}/task/{pid}/children")
    if not path.exists():
        pytest.skip("the system doesn't tell who started whom")
    return [int(child) for child in path.read_text().split()]
