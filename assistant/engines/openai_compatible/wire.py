"""What goes over the wire for a conversation: chat messages, with the audio in them. Pure.

A message always becomes the same bytes. So of a conversation that goes on, a server finds all but
the end in its prefix cache.
"""

from __future__ import annotations

import base64
import io
import wave
from typing import Any, Literal, assert_never

from assistant.conversation import (
    AudioPart,
    FunctionCall,
    FunctionOutput,
    OneTool,
    Part,
    Prompt,
    TextPart,
    Tool,
)
from audio_io.pcm import SAMPLE_RATE_HZ

AudioAs = Literal["input_audio", "input_audio_url", "audio_url"]


class Rendering:
    """One conversation in the words of the wire. Each audio is encoded once, and kept."""

    def __init__(self, audio_as: AudioAs) -> None:
        self._audio_as = audio_as
        self._encoded: dict[str, str] = {}
        """Base64 of wav files, by the audio's digest."""

    def messages(self, prompt: Prompt) -> list[dict[str, Any]]:
        """The messages of a request."""
        written: list[dict[str, Any]] = []
        for message in prompt.messages:
            match message.parts:
                case ():
                    pass
                case (FunctionCall() as call,):
                    # Calls belong to the message that they were made in.
                    if not written or written[-1]["role"] != "assistant":
                        written.append({"role": "assistant", "content": None})
                    written[-1].setdefault("tool_calls", []).append(_call(call))
                case (FunctionOutput(call_id=call_id, output=output),):
                    written.append({"role": "tool", "tool_call_id": call_id, "content": output})
                # Some servers take no list where there is nothing but text.
                case (TextPart(text=text),):
                    written.append({"role": message.role, "content": text})
                case parts:
                    content = [self._part(part) for part in parts]
                    written.append({"role": message.role, "content": content})
        return written

    def keep_only(self, prompt: Prompt) -> None:
        """Let go of audio that `prompt` no longer holds."""
        kept = {
            part.digest
            for message in prompt.messages
            for part in message.parts
            if isinstance(part, AudioPart)
        }
        self._encoded = {key: data for key, data in self._encoded.items() if key in kept}

    def _part(self, part: Part) -> dict[str, Any]:
        match part:
            case TextPart():
                return {"type": "text", "text": part.text}
            case AudioPart():
                return self._audio(self._base64(part))
            case FunctionCall() | FunctionOutput():
                raise AssertionError("the one part of its message")
            case _:
                assert_never(part)

    def _audio(self, data: str) -> dict[str, Any]:
        match self._audio_as:
            case "input_audio":
                return {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}
            case "input_audio_url":
                url = f"data:;base64,{data}"
                return {"type": "input_audio", "input_audio": {"data": url, "format": "wav"}}
            case "audio_url":
                return {"type": "audio_url", "audio_url": {"url": f"data:audio/wav;base64,{data}"}}
            case _:
                assert_never(self._audio_as)

    def _base64(self, part: AudioPart) -> str:
        if part.digest not in self._encoded:
            self._encoded[part.digest] = base64.b64encode(wav(part)).decode()
        return self._encoded[part.digest]


def tool_fields(prompt: Prompt) -> dict[str, Any]:
    """What a request says of the functions that may be called: nothing where there are none."""
    if not prompt.tools:
        return {}
    choice: Any = prompt.tool_choice
    if isinstance(choice, OneTool):
        choice = {"type": "function", "function": {"name": choice.name}}
    return {"tools": [_tool(tool) for tool in prompt.tools], "tool_choice": choice}


def _tool(tool: Tool) -> dict[str, Any]:
    function = {
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.parameters,
    }
    return {"type": "function", "function": function}


def _call(call: FunctionCall) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.call_id, "type": "function", "function": function}


def wav(part: AudioPart) -> bytes:
    """The audio as a wav file: 16 bits, 16 kHz, mono."""
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(SAMPLE_RATE_HZ)
        writer.writeframes(part.samples.astype("<i2", copy=False).tobytes())
    return file.getvalue()
