"""Call the server over WebRTC: the openai package places the call, aiortc carries it.

    python call.py http://127.0.0.1:8000/v1

Each line of input is typed or, where it names a .wav file (16-bit mono at 24 kHz), spoken; what
happens is printed as lines of JSON. The key is taken from OPENAI_API_KEY. Needs `openai` and
`aiortc`.
"""

import asyncio
import json
import os
import sys
import time
import wave
from fractions import Fraction

from aiortc import MediaStreamTrack, RTCPeerConnection, RTCSessionDescription
from av import AudioFrame
from openai import AsyncOpenAI

RATE_HZ = 24_000
FRAME_SAMPLES = RATE_HZ // 50


async def main(url: str) -> None:
    client = AsyncOpenAI(base_url=url, api_key=os.environ.get("OPENAI_API_KEY", "none"))
    call = RTCPeerConnection()
    call.addTrack(voice := Voice())
    channel = call.createDataChannel("oai-events")
    opened = asyncio.Event()
    channel.on("open", opened.set)
    history = []
    channel.on("message", lambda message: follow(json.loads(message), history))

    await call.setLocalDescription(await call.createOffer())
    answer = await client.realtime.calls.create(
        sdp=call.localDescription.sdp, session={"type": "realtime", "output_modalities": ["text"]}
    )
    await call.setRemoteDescription(RTCSessionDescription(answer.text, "answer"))
    await opened.wait()

    while line := (await asyncio.to_thread(sys.stdin.readline)).strip():
        if line.endswith(".wav"):
            voice.say(line)
        else:
            content = [{"type": "input_text", "text": line}]
            item = {"type": "message", "role": "user", "content": content}
            channel.send(json.dumps({"type": "conversation.item.create", "item": item}))
            channel.send(json.dumps({"type": "response.create"}))
    show(history=history)
    await call.close()


def follow(event: dict, history: list) -> None:
    match event:
        case {"type": "response.output_text.delta", "delta": delta}:
            show(text=delta)
        case {"type": "response.done", "response": {"output": output}}:
            show(reply=" ".join(map(text, output)))
        case {"type": "conversation.item.done", "item": item}:
            history.append([item["role"], text(item)])
        case {"type": "error", "error": error}:
            show(error=error["message"])


def text(item: dict) -> str:
    return " ".join(part.get("text", "(speech)") for part in item["content"])


def show(**what: object) -> None:
    print(json.dumps(what), flush=True)


class Voice(MediaStreamTrack):
    """Says wav files, in real time, and is silent in between."""

    kind = "audio"

    def __init__(self) -> None:
        super().__init__()
        self._sound = b""
        self._sent_samples = 0
        self._start_s = time.monotonic()

    def say(self, path: str) -> None:
        with wave.open(path) as file:
            self._sound += file.readframes(file.getnframes())

    async def recv(self) -> AudioFrame:
        size = FRAME_SAMPLES * 2
        piece, self._sound = self._sound[:size].ljust(size, b"\0"), self._sound[size:]
        frame = AudioFrame(format="s16", layout="mono", samples=FRAME_SAMPLES)
        frame.planes[0].update(piece)
        frame.sample_rate, frame.time_base = RATE_HZ, Fraction(1, RATE_HZ)
        frame.pts = self._sent_samples
        self._sent_samples += FRAME_SAMPLES
        await asyncio.sleep(self._start_s + self._sent_samples / RATE_HZ - time.monotonic())
        return frame


asyncio.run(main(sys.argv[1]))
