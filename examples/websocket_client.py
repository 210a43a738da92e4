"""Say a wav file to the server, and print the reply as it comes.

    python examples/websocket_client.py question.wav [ws://127.0.0.1:8000/v1/realtime]

The wav file is 16-bit mono at 24 or 16 kHz. Needs nothing but the websockets package.
"""

import asyncio
import base64
import json
import sys
import wave

from websockets.asyncio.client import connect


async def main(path: str, url: str = "ws://127.0.0.1:8000/v1/realtime") -> None:
    with wave.open(path) as file:
        rate, sound = file.getframerate(), file.readframes(file.getnframes())
    audio = {"input": {"format": {"type": "audio/pcm", "rate": rate}, "turn_detection": None}}
    async with connect(url) as websocket:
        for event in (
            {"type": "session.update", "session": {"type": "realtime", "audio": audio}},
            {"type": "input_audio_buffer.append", "audio": base64.b64encode(sound).decode()},
            {"type": "input_audio_buffer.commit"},
            {"type": "response.create"},
        ):
            await websocket.send(json.dumps(event))
        async for message in websocket:
            match json.loads(message):
                case {"type": "response.output_text.delta", "delta": text}:
                    print(text, end="", flush=True)
                case {"type": "error", "error": error}:
                    sys.exit(error["message"])
                case {"type": "response.done"}:
                    return print()


asyncio.run(main(*sys.argv[1:]))
