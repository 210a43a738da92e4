"""Converse with the server through LiveKit Agents and its OpenAI plugin.

    python client.py http://127.0.0.1:8000/v1

Each line of input is typed or, where it names a .wav file (16-bit mono at 24 kHz), spoken; what
happens is printed as lines of JSON. The key is taken from OPENAI_API_KEY. Needs requirements.txt.
In an agent of yours, the room takes the place of `Voice` and `Printer`.
"""

import asyncio
import json
import os
import sys
import wave

from livekit.agents import Agent, AgentSession, function_tool
from livekit.agents.utils import http_context
from livekit.agents.voice.io import AudioInput, TextOutput
from livekit.plugins.openai.realtime import RealtimeModel
from livekit.rtc import AudioFrame

RATE_HZ = 24_000
FRAME_SAMPLES = RATE_HZ // 50


@function_tool
async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


async def main(url: str) -> None:
    model = RealtimeModel(
        base_url=url, api_key=os.environ.get("OPENAI_API_KEY", "none"), modalities=["text"]
    )
    session = AgentSession(llm=model, turn_handling={"turn_detection": "realtime_llm"})
    session.input.audio = voice = Voice()
    session.output.transcription = Printer()

    @session.on("conversation_item_added")
    def on_item(event) -> None:
        if event.item.type == "message" and event.item.role == "assistant":
            show(reply=event.item.text_content)

    @session.on("error")
    def on_error(event) -> None:
        show(error=str(event.error))

    async with http_context.open():
        await session.start(Agent(instructions="You are a helpful assistant.", tools=[add]))
        while line := (await asyncio.to_thread(sys.stdin.readline)).strip():
            if line.endswith(".wav"):
                voice.say(line)
            else:
                session.generate_reply(user_input=line)
        show(history=[[item.role, item.text_content] for item in session.history.messages()])
        await session.aclose()


class Voice(AudioInput):
    """Says wav files, in real time."""

    def __init__(self) -> None:
        super().__init__(label="voice")
        self._frames: asyncio.Queue[AudioFrame] = asyncio.Queue()

    def say(self, path: str) -> None:
        with wave.open(path) as file:
            while sound := file.readframes(FRAME_SAMPLES):
                self._frames.put_nowait(AudioFrame(sound, RATE_HZ, 1, len(sound) // 2))

    async def __anext__(self) -> AudioFrame:
        frame = await self._frames.get()
        await asyncio.sleep(frame.duration)
        return frame


class Printer(TextOutput):
    """Prints the reply as it comes."""

    def __init__(self) -> None:
        super().__init__(label="printer", next_in_chain=None)

    async def capture_text(self, text: str) -> None:
        show(text=text)

    def flush(self) -> None:
        """A reply has ended."""


def show(**what: object) -> None:
    print(json.dumps(what), flush=True)


asyncio.run(main(sys.argv[1]))
