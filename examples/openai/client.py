"""Converse with the server through the openai package.

    python client.py ws://127.0.0.1:8000/v1

Each line of input is typed or, where it names a .wav file (16-bit mono at 24 kHz), spoken; what
happens is printed as lines of JSON. The key is taken from OPENAI_API_KEY. Needs `openai[realtime]`.
"""

import asyncio
import base64
import json
import os
import sys
import wave

from openai import AsyncOpenAI
from openai.resources.realtime.realtime import AsyncRealtimeConnection


async def main(url: str) -> None:
    client = AsyncOpenAI(websocket_base_url=url, api_key=os.environ.get("OPENAI_API_KEY", "none"))
    async with client.realtime.connect(model="any") as connection:
        listening = asyncio.create_task(listen(connection))
        while line := (await asyncio.to_thread(sys.stdin.readline)).strip():
            if line.endswith(".wav"):
                with wave.open(line) as file:
                    sound = base64.b64encode(file.readframes(file.getnframes())).decode()
                await connection.input_audio_buffer.append(audio=sound)
            else:
                content = [{"type": "input_text", "text": line}]
                item = {"type": "message", "role": "user", "content": content}
                await connection.conversation.item.create(item=item)
                await connection.response.create()
    await listening


async def listen(connection: AsyncRealtimeConnection) -> None:
    history = []
    async for event in connection:
        match event.type:
            case "response.output_text.delta":
                show(text=event.delta)
            case "response.done":
                show(reply=" ".join(map(text, event.response.output)))
            case "conversation.item.done":
                history.append([event.item.role, text(event.item)])
            case "error":
                show(error=event.error.message)
    show(history=history)


def text(item) -> str:
    return " ".join(part.text or "(speech)" for part in item.content)


def show(**what: object) -> None:
    print(json.dumps(what), flush=True)


asyncio.run(main(sys.argv[1]))
