"""Messages with their audio and text parts, and the prompt that they make. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, assert_never

import numpy as np
from numpy.typing import NDArray

Role = Literal["system", "user", "assistant", "tool"]

NO_ID = ""
"""Of messages that are in prompts alone; no client can give it to one."""


@dataclass(frozen=True, slots=True)
class TextPart:
    """Text of any role."""

    text: str
    token_ids: tuple[int, ...] = ()
    """For a reply, the ids it was sampled as, so that no engine has to tokenise it again.
    Opaque outside the engine; empty where unknown."""
    has_control_tokens: bool = False
    """Whether what spells a control token of the model is that token. Of texts that the program's
    operator gives, never of what people type or clients send."""


@dataclass(frozen=True, slots=True)
class AudioPart:
    """At most 30.0 s of a user's audio. Equal when the digests are equal."""

    digest: str
    """Hash of the samples: what engines know an audio by, so that each is encoded once."""
    samples: NDArray[np.int16] = field(compare=False, repr=False)
    """int16 (n,), 16 kHz mono."""
    transcript: str | None = field(default=None, compare=False)
    """What is said in it, where that is known; no model is told."""

    @classmethod
    def of(cls, samples: NDArray[np.int16]) -> AudioPart:
        """The part that holds `samples` (int16 (n,), 16 kHz mono)."""
        return cls(hashlib.blake2b(samples.tobytes(), digest_size=16).hexdigest(), samples)


@dataclass(frozen=True, slots=True)
class FunctionCall:
    """A function that the assistant wants called; the one part of its message."""

    call_id: str
    name: str
    arguments: str
    """JSON, as the model wrote it: it may be none."""
    token_ids: tuple[int, ...] = ()
    """As in TextPart, with all that the model wrote around it."""


@dataclass(frozen=True, slots=True)
class FunctionOutput:
    """What came of a call; the one part of a tool's message."""

    call_id: str
    output: str


Part = TextPart | AudioPart | FunctionCall | FunctionOutput


@dataclass(frozen=True, slots=True)
class Message:
    """One entry of a conversation; edits replace it by another with the same id."""

    id: str
    role: Role
    parts: tuple[Part, ...]
    whole: bool = field(default=True, compare=False)
    """Whether all was said that was to be; no model is told."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may ask for."""

    name: str
    description: str
    parameters: dict[str, Any]
    """A JSON schema; not to be changed."""


@dataclass(frozen=True, slots=True)
class OneTool:
    """The function that the model must call."""

    name: str


ToolChoice = Literal["auto", "none", "required"] | OneTool


@dataclass(frozen=True, slots=True)
class Prompt:
    """All that a reply is to be based on, declared whole every time.

    The model session works out for itself what of it is new to it (`engines/engine.py`).
    """

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = "auto"
    task: Literal["reply", "transcription"] = "reply"
    """A transcription's only message is what was said, with the instruction to write it down as
    its last part; an engine that has other means for that leaves it unread."""


def make_prompt(instructions: str, messages: Iterable[Message]) -> Prompt:
    """The prompt for a reply to `messages`. What came of a call that isn't among them is left out:
    no model knows what to make of it.
    """
    system = Message(NO_ID, "system", (TextPart(instructions),))
    kept = [system] if instructions else []
    called: set[str] = set()
    for message in messages:
        called |= {part.call_id for part in message.parts if isinstance(part, FunctionCall)}
        outputs = {part.call_id for part in message.parts if isinstance(part, FunctionOutput)}
        if outputs <= called:
            kept.append(message)
    return Prompt(tuple(kept))


def written_in(part: Part) -> tuple[str, ...]:
    """All text that a part brings into a prompt, whatever a template writes around it."""
    match part:
        case TextPart():
            return (part.text,)
        case AudioPart():
            return ()
        case FunctionCall():
            return (part.name, part.arguments)
        case FunctionOutput():
            return (part.output,)
        case _:
            assert_never(part)
