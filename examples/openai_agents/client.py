"""Converse with the server through the OpenAI Agents SDK.

    python client.py ws://127.0.0.1:8000/v1/realtime

Each line of input is typed or, where it names a .wav file (16-bit mono at 24 kHz), spoken; what
happens is printed as lines of JSON. The key is taken from OPENAI_API_KEY. Needs requirements.txt.
"""

import asyncio
import json
import os
import sys
import wave

from agents import function_tool
from agents.realtime import RealtimeAgent, RealtimeModelConfig, RealtimeRunner, RealtimeSession


@function_tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


async def main(url: str) -> None:
    runner = RealtimeRunner(RealtimeAgent(name="assistant", tools=[add]))
    server: RealtimeModelConfig = {
        "url": url,
        "api_key": os.environ.get("OPENAI_API_KEY", "none"),
        "initial_model_settings": {"modalities": ["text"]},
    }
    async with await runner.run(model_config=server) as session:
        listening = asyncio.create_task(listen(session))
        while line := (await asyncio.to_thread(sys.stdin.readline)).strip():
            if line.endswith(".wav"):
                with wave.open(line) as file:
                    await session.send_audio(file.readframes(file.getnframes()))
            else:
                await session.send_message(line)
        listening.cancel()


async def listen(session: RealtimeSession) -> None:
    history = []
    try:
        async for event in session:
            match event.type:
                case "history_added" if event.item.type == "message":
                    history.append(event.item)
                case "history_updated":
                    history = [item for item in event.history if item.type == "message"]
                case "raw_model_event" if event.data.type == "output_text_delta":
                    show(text=event.data.delta)
                case "agent_end" if history[-1].role == "assistant":
                    show(reply=text(history[-1]))
                case "error":
                    show(error=str(event.error))
    finally:
        show(history=[[item.role, text(item)] for item in history])


def text(item) -> str:
    return " ".join(part.text or part.transcript or "(speech)" for part in item.content)


def show(**what) -> None:
    print(json.dumps(what), flush=True)


asyncio.run(main(sys.argv[1]))
