"""Converse with the server through Pipecat's OpenAI Realtime service.

    python client.py ws://127.0.0.1:8000/v1/realtime

Each line of input is typed or, where it names a .wav file (16-bit mono at 24 kHz), spoken; what
happens is printed as lines of JSON. The key is taken from OPENAI_API_KEY. Needs requirements.txt.
In a pipeline of yours, a transport takes the place of the wav files, and text-to-speech that of
`Printer`.
"""

import asyncio
import json
import os
import sys
import wave

from pipecat.frames.frames import (
    ErrorFrame,
    Frame,
    InputAudioRawFrame,
    LLMRunFrame,
    LLMTextFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import LLMContextAggregatorPair
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.services.llm_service import FunctionCallParams
from pipecat.services.openai.realtime import events
from pipecat.services.openai.realtime.llm import OpenAIRealtimeLLMService
from pipecat.workers.runner import WorkerRunner

RATE_HZ = 24_000
FRAME_SAMPLES = RATE_HZ // 50
# What was said is written down, so that Pipecat's context has it too.
HEARING = events.AudioInput(transcription=events.InputAudioTranscription())


async def add(params: FunctionCallParams, a: int, b: int) -> None:
    """Add two numbers.

    Args:
        a: The first number.
        b: The second number.
    """
    await params.result_callback(a + b)


async def main(url: str) -> None:
    llm = OpenAIRealtimeLLMService(
        base_url=url,
        api_key=os.environ.get("OPENAI_API_KEY", "none"),
        settings=OpenAIRealtimeLLMService.Settings(
            system_instruction="You are a helpful assistant. Begin by saying hello.",
            session_properties=events.SessionProperties(
                output_modalities=["text"], audio=events.AudioConfiguration(input=HEARING)
            ),
        ),
    )
    context = LLMContext(tools=[add])
    user, assistant = LLMContextAggregatorPair(context)
    worker = PipelineWorker(Pipeline([user, llm, Printer(), assistant]))

    @assistant.event_handler("on_assistant_turn_stopped")
    async def on_reply(_, message) -> None:
        show(reply=message.content)

    started = asyncio.Event()

    @worker.event_handler("on_pipeline_started")
    async def on_start(*_) -> None:
        await worker.queue_frame(LLMRunFrame())
        started.set()

    async def say(path: str) -> None:
        """In real time, as a transport would."""
        with wave.open(path) as file:
            while sound := file.readframes(FRAME_SAMPLES):
                await worker.queue_frame(InputAudioRawFrame(sound, RATE_HZ, num_channels=1))
                await asyncio.sleep(FRAME_SAMPLES / RATE_HZ)

    async def converse() -> None:
        await started.wait()
        while line := (await asyncio.to_thread(sys.stdin.readline)).strip():
            if line.endswith(".wav"):
                await say(line)
            else:
                context.add_message({"role": "user", "content": line})
                content = [events.ItemContent(type="input_text", text=line)]
                item = events.ConversationItem(type="message", role="user", content=content)
                await llm.send_client_event(events.ConversationItemCreateEvent(item=item))
                await llm.send_client_event(events.ResponseCreateEvent())
        said = [m for m in context.messages if m["role"] != "tool" and "tool_calls" not in m]
        show(history=[[message["role"], message["content"]] for message in said])
        await worker.stop_when_done()

    runner = WorkerRunner()
    await runner.add_workers(worker)
    await asyncio.gather(runner.run(), converse())


class Printer(FrameProcessor):
    """Prints the reply as it comes."""

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        match frame:
            case LLMTextFrame():
                show(text=frame.text)
            case ErrorFrame():
                show(error=frame.error)
        await self.push_frame(frame, direction)


def show(**what: object) -> None:
    print(json.dumps(what), flush=True)


asyncio.run(main(sys.argv[1]))
