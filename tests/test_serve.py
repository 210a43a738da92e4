"""The server as other machines meet it: over TLS, at an address that they can open."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import connect

from assistant.config import Config, ServerConfig
from assistant.errors import ConfigError
from assistant.serve import announce, find_certificate
from assistant.tls import self_signed
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
