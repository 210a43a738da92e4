"""A conversation in DashScope's words. Pure."""

from __future__ import annotations

from typing import Any, assert_never

from assistant.engines.remote.audio import EncodedAudio
from assistant.errors import EngineError
from assistant.prompt import AudioPart, FunctionCall, FunctionOutput, Part, Prompt, TextPart
from audio_io.pcm import SAMPLE_RATE_HZ

MAX_AUDIO_S = 30.0
"""Of what is longer, the models would hear the beginning alone."""


def messages(prompt: Prompt, audio: EncodedAudio) -> list[dict[str, Any]]:
    """The messages of a request. Raises EngineError for functions, which the API doesn't know."""
    return [
        {"role": message.role, "content": [_part(part, audio) for part in message.parts]}
        for message in prompt.messages
        if message.parts
    ]


def is_spoken_alone(prompt: Prompt) -> bool:
    """Whether the newest message has audio and no text about it."""
    newest = prompt.messages[-1].parts if prompt.messages else ()
    return bool(newest) and all(isinstance(part, AudioPart) for part in newest)


def _part(part: Part, audio: EncodedAudio) -> dict[str, str]:
    match part:
        case TextPart():
            return {"text": part.text}
        case AudioPart():
            if len(part.samples) > MAX_AUDIO_S * SAMPLE_RATE_HZ:
                raise EngineError(f"DashScope takes at most {MAX_AUDIO_S:g} s of audio in a part.")
            return {"audio": f"data:;base64,{audio.base64(part)}"}
        case FunctionCall() | FunctionOutput():
            raise EngineError("DashScope's audio models call no functions.")
        case _:
            assert_never(part)
