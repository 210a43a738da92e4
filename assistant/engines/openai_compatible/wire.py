"""What goes over the wire for a conversation: chat messages, with the audio in them. Pure.

A message always becomes the same bytes. So of a conversation that goes on, a server finds all but
the end in its prefix cache.
"""

from __future__ import annotations

from typing import Any, Literal, assert_never

from assistant.engines.remote.audio import EncodedAudio
from assistant.prompt import (
    AudioPart,
    FunctionCall,
    FunctionOutput,
    OneTool,
    Part,
    Prompt,
    TextPart,
    Tool,
)

AudioAs = Literal["input_audio", "input_audio_url", "audio_url"]


class Rendering:
    """Conversations in the words of the wire."""

    def __init__(self, audio_as: AudioAs, audio: EncodedAudio) -> None:
        self._audio_as = audio_as
        self._encoded = audio

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

    def _part(self, part: Part) -> dict[str, Any]:
        match part:
            case TextPart():
                return {"type": "text", "text": part.text}
            case AudioPart():
                return self._audio(self._encoded.base64(part))
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
