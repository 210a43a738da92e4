"""Conversation items: the wire's form of messages. Pure."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, NamedTuple, assert_never

import numpy as np

from assistant.errors import ProtocolError
from assistant.prompt import (
    AudioPart,
    FunctionCall,
    FunctionOutput,
    Message,
    Part,
    TextPart,
    written_in,
)
from assistant.realtime.client_items import (
    FunctionCallItem,
    FunctionOutputItem,
    InputAudio,
    InputItem,
    InputText,
    Item,
    ItemReference,
    OutputAudio,
    OutputText,
)
from assistant.realtime.complaints import check_length, check_total
from assistant.realtime.settings import G711Format, PcmFormat
from audio_io.errors import AudioFormatError
from audio_io.pcm import (
    G711_RATE_HZ,
    SAMPLE_RATE_HZ,
    Int16Array,
    alaw_from_bytes,
    mulaw_from_bytes,
    pcm16_from_bytes,
)
from audio_io.resampling import Resampler

# Below this the models' encoders fail (research: Qwen2-Audio needs two of its 40 ms tokens).
MIN_AUDIO_MS = 100
MAX_AUDIO_MS = 30_000


class Sound(NamedTuple):
    """What a client has said in its format."""

    samples: Int16Array
    """int16 (n,), mono."""
    sample_rate_hz: int


def decode_sound(audio: str, format: PcmFormat | G711Format, *, param: str) -> Sound:
    """The sound that `audio`, in base64, holds. Raises ProtocolError."""
    data = _decode_base64(audio, param)
    match format:
        case PcmFormat():
            try:
                return Sound(pcm16_from_bytes(data), format.rate)
            except AudioFormatError as error:
                raise ProtocolError(f"'{param}': {error}", param=param) from error
        case G711Format(type="audio/pcmu"):
            return Sound(mulaw_from_bytes(data), G711_RATE_HZ)
        case G711Format():
            return Sound(alaw_from_bytes(data), G711_RATE_HZ)
        case _:
            assert_never(format)


def message_from_item(
    item: Item,
    *,
    new_id: Callable[[str], str],
    format: PcmFormat | G711Format,
    max_chars: int,
    param: str,
) -> Message:
    """The message that a client's item stands for, which is found at `param`.

    It has the client's id, or a new one. Raises ProtocolError, also where all that is written in it
    has more than `max_chars`.
    """
    id = item.id or new_id("item")
    match item:
        case FunctionCallItem():
            check_length(item.arguments, max_chars, param=f"{param}.arguments")
            call_id = item.call_id or new_id("call")
            return Message(id, "assistant", (FunctionCall(call_id, item.name, item.arguments),))
        case FunctionOutputItem():
            check_length(item.output, max_chars, param=f"{param}.output")
            return Message(id, "tool", (FunctionOutput(item.call_id, item.output),))
    parts: list[Part] = []
    for index, content in enumerate(item.content):
        at = f"{param}.content[{index}]"
        match content:
            case InputText(text=text) | OutputText(text=text):
                check_length(text, max_chars, param=f"{at}.text")
                parts.append(TextPart(text))
            case OutputAudio(transcript=text):
                check_length(text, max_chars, param=f"{at}.transcript")
                parts.append(TextPart(text))
            case InputAudio():
                text = content.transcript or ""
                check_length(text, max_chars, param=f"{at}.transcript")
                sound = decode_sound(content.audio, format, param=f"{at}.audio")
                part = _audio_part(sound, f"{at}.audio")
                parts.append(replace(part, transcript=content.transcript))
        max_chars -= len(text)
    return Message(id, item.role, tuple(parts))


def messages_from_input(
    items: Iterable[InputItem],
    said: Iterable[Message],
    *,
    new_id: Callable[[str], str],
    format: PcmFormat | G711Format,
    max_chars: int,
) -> list[Message]:
    """What a response is to answer, where it may refer to what was `said`.

    Raises ProtocolError, also where more than `max_chars` are written in all of it together.
    """
    known = {message.id: message for message in said}
    messages = []
    for index, item in enumerate(items):
        param = f"response.input[{index}]"
        if not isinstance(item, ItemReference):
            message = message_from_item(
                item, new_id=new_id, format=format, max_chars=max_chars, param=param
            )
        elif item.id in known:
            message = known[item.id]
        else:
            raise ProtocolError(
                f"Can't refer to the item: there is none with the id {item.id!r}.",
                code="item_reference_invalid_item_id",
                param=f"{param}.id",
            )
        messages.append(message)
    parts = (part for message in messages for part in message.parts)
    chars = sum(len(text) for part in parts for text in written_in(part))
    check_total(chars, max_chars, param="response.input")
    return messages


def _decode_base64(text: str, param: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ProtocolError(f"'{param}' is not base64: {error}.", param=param) from error


def _audio_part(sound: Sound, param: str) -> AudioPart:
    resampler = Resampler(sound.sample_rate_hz)
    samples = resampler.feed(sound.samples)
    samples = np.concatenate([samples, resampler.flush()])
    duration_ms = len(samples) * 1000 // SAMPLE_RATE_HZ
    if not MIN_AUDIO_MS <= duration_ms <= MAX_AUDIO_MS:
        raise ProtocolError(
            f"'{param}' holds {duration_ms / 1000:g} s of audio; a part holds "
            f"{MIN_AUDIO_MS / 1000} to {MAX_AUDIO_MS / 1000} s. Send longer audio as several "
            "input_audio parts.",
            param=param,
        )
    return AudioPart.of(samples)


def item_from_message(message: Message, *, status: str | None = None) -> dict[str, Any]:
    """The item that clients see for `message`; audio is not sent back.

    `status`: other than how the message has ended.
    """
    status = status or ("completed" if message.whole else "incomplete")
    common = {"id": message.id, "object": "realtime.item", "status": status}
    match message.parts:
        case (FunctionCall() as call,):
            return {
                **common,
                "type": "function_call",
                "call_id": call.call_id,
                "name": call.name,
                "arguments": call.arguments,
            }
        case (FunctionOutput() as output,):
            return {
                **common,
                "type": "function_call_output",
                "call_id": output.call_id,
                "output": output.output,
            }
    return {**common, "type": "message", "role": message.role, "content": _content(message)}


def text_of(message: Message) -> str:
    """All that is written in it."""
    return "".join(part.text for part in message.parts if isinstance(part, TextPart))


def _content(message: Message) -> list[dict[str, Any]]:
    if message.role == "assistant":
        # Its parts differ in what is known of their tokens, which is no client's business.
        text = text_of(message)
        return [{"type": "output_text", "text": text}] if text else []
    return [
        {"type": "input_audio", "transcript": part.transcript}
        if isinstance(part, AudioPart)
        else {"type": "input_text", "text": "".join(written_in(part))}
        for part in message.parts
    ]
