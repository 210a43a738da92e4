"""`transformers serve`: the library's own server, asked as its clients ask it."""

from __future__ import annotations

import asyncio
import base64
import io
import os
import socket
import sys
import time
import wave
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
from openai import AsyncOpenAI

from assistant.prompt import AudioPart, Message, Prompt, TextPart
from audio_io.pcm import SAMPLE_RATE_HZ, Int16Array
from benchmarks.turn_latency.spoken import REPLY_TOKENS

STARTUP_S = 120


class ServeError(Exception):
    """It can't be compared with, and why."""


class Served:
    """A checkpoint behind `transformers serve`."""

    def __init__(self, client: AsyncOpenAI, model: str) -> None:
        self._client = client
        self._model = model

    async def first_text_ms(self, prompt: Prompt) -> float:
        """From the request to the first piece of text of the reply."""
        chat: Any = [_message(message) for message in prompt.messages]
        begun = time.perf_counter()
        first_s = 0.0
        stream = await self._client.chat.completions.create(
            model=self._model,
            messages=chat,
            max_tokens=REPLY_TOKENS,
            temperature=0,
            stream=True,
        )
        async for chunk in stream:
            if chunk.choices and chunk.choices[0].delta.content and not first_s:
                first_s = time.perf_counter()
        return (first_s - begun) * 1000


@asynccontextmanager
async def served(folder: Path) -> AsyncIterator[Served]:
    """The checkpoint in `folder`, served. Raises ServeError where that can't be."""
    if find_spec("accelerate") is None:
        raise ServeError("it needs accelerate: pip install -e '.[test]'")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    log = folder.with_suffix(".log")
    with log.open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", "from transformers.cli.transformers import main; main()"),
            *("serve", str(folder), "--device", "cpu", "--port", str(port)),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=errors,
            env=os.environ | {"HF_HUB_OFFLINE": "1"},
        )
    address = f"http://127.0.0.1:{port}"
    try:
        await _until_healthy(address, process, log)
        async with AsyncOpenAI(base_url=f"{address}/v1", api_key="none") as client:
            yield Served(client, str(folder))
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _until_healthy(address: str, process: asyncio.subprocess.Process, log: Path) -> None:
    async with asyncio.timeout(STARTUP_S), httpx.AsyncClient() as client:
        while True:
            if process.returncode is not None:
                raise ServeError(_last_line(log))
            try:
                if (await client.get(f"{address}/health")).is_success:
                    return
            except httpx.TransportError:
                await asyncio.sleep(0.1)


def _last_line(log: Path) -> str:
    return log.read_text().strip().splitlines()[-1]


def _message(message: Message) -> dict[str, Any]:
    content = []
    for part in message.parts:
        match part:
            case TextPart(text=text):
                content.append({"type": "text", "text": text})
            case AudioPart(samples=samples):
                audio = {"data": base64.b64encode(_wav(samples)).decode(), "format": "wav"}
                content.append({"type": "input_audio", "input_audio": audio})
    return {"role": message.role, "content": content}


def _wav(samples: Int16Array) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(SAMPLE_RATE_HZ)
        sound.writeframes(samples.tobytes())
    return file.getvalue()
