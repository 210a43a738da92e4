"""Several gateways behind one address, by the configuration that the documentation shows."""

from __future__ import annotations

import asyncio
import re
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import ConnectionClosed

from tests.sdk_client import Conversation, connected
from tests.speech import prompt, write_wav

pytestmark = pytest.mark.slow

NGINX_CONF = Path(__file__).parent.parent / "docs/scale-out/nginx.conf"
PORTS = "8000", "8001", "8002"


@asynccontextmanager
async def gateway(port: int) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "assistant.cli", "serve", f"--port={port}"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdout is not None
    assert b"Listening" in await process.stdout.readline()
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@asynccontextmanager
async def nginx(ports: dict[str, int], folder: Path) -> AsyncIterator[None]:
    """With the documented configuration on these ports."""
    if shutil.which("nginx") is None:
        pytest.skip("nginx is missing; it comes with `apt-get install nginx-light`")
    text = re.sub("|".join(PORTS), lambda port: str(ports[port[0]]), NGINX_CONF.read_text())
    (folder / "nginx.conf").write_text("daemon off;\n" + text)
    process = await asyncio.create_subprocess_exec(
        *("nginx", "-c", str(folder / "nginx.conf"), "-p", str(folder)),
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield
    finally:
        process.terminate()
        await process.communicate()


def free_ports(count: int) -> list[int]:
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


async def sessions_at(port: int) -> int:
    async with httpx.AsyncClient() as client:
        metrics = (await client.get(f"http://127.0.0.1:{port}/metrics")).text
    found = re.search(r"^assistant_sessions (\d+)", metrics, re.MULTILINE)
    assert found
    return int(float(found[1]))


async def answers(address: str) -> None:
    """Return when nginx is up."""
    async with httpx.AsyncClient() as client:
        while True:
            try:
                response = await client.get(f"http://{address}/health")
            except httpx.ConnectError:
                continue
            assert response.status_code == 200
            return


async def test_a_gateway_is_restarted_while_people_talk(tmp_path: Path) -> None:
    ports = dict(zip(PORTS, free_ports(3), strict=True))
    address = f"127.0.0.1:{ports['8000']}"
    async with (
        gateway(ports["8001"]) as first,
        gateway(ports["8002"]),
        nginx(ports, tmp_path),
        AsyncExitStack() as people,
    ):
        await answers(address)
        clients: list[Conversation] = [
            await people.enter_async_context(connected(address)) for _ in range(4)
        ]
        for client in clients:
            await client.sees("session.created")
        assert await sessions_at(ports["8001"]) == await sessions_at(ports["8002"]) == 2

        # All of them listen to a long reply when the first gateway is told to end.
        for client in clients:
            await client.types("Count to twenty.")
        for client in clients:
            await client.sees("response.output_text.delta")
        first.send_signal(signal.SIGTERM)
        for client in clients:
            done = await client.sees("response.done")
            assert done["response"]["status"] == "completed"
        assert await first.wait() == 0

        # Those at the other one go on; those at the first were told why not.
        ended = []
        for client in clients:
            try:
                await client.types("Hello.")
                assert await client.reply()
            except ConnectionClosed as closed:
                assert closed.rcvd is not None
                ended.append(closed.rcvd.reason)
        assert ended == ["The server is being shut down. Connect again to reach another."] * 2

        # Whoever comes now is sent to the one that is left.
        async with connected(address) as newcomer:
            await newcomer.sees("session.created")
            assert await sessions_at(ports["8002"]) == 3


async def test_a_file_that_is_sent_ahead_is_where_the_request_about_it_goes(tmp_path: Path) -> None:
    ports = dict(zip(PORTS, free_ports(3), strict=True))
    address = f"127.0.0.1:{ports['8000']}"
    sound = write_wav(tmp_path / "sound.wav", prompt("hello-world")).read_bytes()
    async with (
        gateway(ports["8001"]),
        gateway(ports["8002"]),
        nginx(ports, tmp_path),
        httpx.AsyncClient(base_url=f"http://{address}/api/v1") as client,
    ):
        await answers(address)
        # Else every other request would go to the other gateway.
        for name in ("one.wav", "another.wav"):
            permit = (await client.get("/uploads", params={"action": "getPolicy"})).json()["data"]
            assert permit["upload_host"].startswith(f"http://{address}/api/v1/uploads/")
            key = f"{permit['upload_dir']}/{name}"
            sent = await client.post(
                permit["upload_host"], data={"key": key}, files={"file": sound}
            )
            assert sent.status_code == 200
            said = {"role": "user", "content": [{"audio": f"oss://{key}"}]}
            answer = await client.post(
                "/services/aigc/multimodal-generation/generation",
                json={"model": "any", "input": {"messages": [said]}},
            )
            assert (answer.status_code, answer.json()["usage"]["audio_tokens"] > 0) == (200, True)
