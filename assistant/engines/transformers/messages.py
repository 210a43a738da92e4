"""What the event loop and the model's worker tell each other.

The prompt of a request names audio by digest alone; `Hear` has brought the samples before it.
After a main reply's `Generate` the worker keeps, of a conversation's audio, only what that prompt
names; the event loop's end follows the same rule (`session.py`), so both know what is held.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from assistant.engines.engine import EngineInfo, ReplyEvent, ReplyOptions, TokenCount
from assistant.engines.transformers.call_formats import CallFormat
from assistant.engines.transformers.settings import TransformersSettings
from assistant.prompt import AudioPart, Prompt
from audio_io.pcm import Int16Array

_NO_SAMPLES: Int16Array = np.empty(0, np.int16)

# To the worker.


@dataclass(frozen=True, slots=True)
class Load:
    """The first message: what to serve. Answered by `Loaded` or `Refused`."""

    model: str
    settings: TransformersSettings


@dataclass(frozen=True, slots=True)
class Hear:
    """Audio that later prompts of a conversation name."""

    session_id: int
    digest: str
    samples: Int16Array
    """int16 (n,), 16 kHz mono."""


@dataclass(frozen=True, slots=True)
class Count:
    """How many tokens is this? Answered by a TokenCount."""

    request_id: int
    session_id: int
    prompt: Prompt


@dataclass(frozen=True, slots=True)
class Generate:
    """Answer this. Answered by reply events."""

    request_id: int
    session_id: int
    prompt: Prompt
    options: ReplyOptions
    side: bool
    asked_s: float
    """When the reply was asked for, in s of the monotonic clock, which all processes share."""


@dataclass(frozen=True, slots=True)
class Commit:
    """The turn that a speculative reply is for has ended."""

    request_id: int


@dataclass(frozen=True, slots=True)
class Cancel:
    """Stop a reply at the next token."""

    request_id: int


@dataclass(frozen=True, slots=True)
class Forget:
    """A conversation has ended."""

    session_id: int


@dataclass(frozen=True, slots=True)
class Ping:
    """Is anybody there? Answered by `Pong`, between two steps."""


Request = Count | Generate
ToWorker = Load | Hear | Request | Commit | Cancel | Forget | Ping

# From the worker.


@dataclass(frozen=True, slots=True)
class Loaded:
    """The model is loaded and warm."""

    info: EngineInfo
    calls: CallFormat | None = None
    """How it writes calls of functions; None: it knows of none."""
    on_gpu: bool = False


@dataclass(frozen=True, slots=True)
class Refused:
    """The model can't be loaded, or computes no more; the worker ends."""

    reason: str


@dataclass(frozen=True, slots=True)
class Answer:
    """The next part of the answer to a request."""

    request_id: int
    content: ReplyEvent | TokenCount


@dataclass(frozen=True, slots=True)
class Ended:
    """The last of a request, whether answered, cancelled or failed."""

    request_id: int
    error: str | None = None
    too_long: TokenCount | None = None
    """What the prompt takes, where that is what went wrong."""
    gave_way: bool = False
    """Whether all that went wrong is that another reply needed the place."""


@dataclass(frozen=True, slots=True)
class Pong:
    """A sign of life."""


FromWorker = Loaded | Refused | Answer | Ended | Pong


def audio_of(prompt: Prompt) -> dict[str, AudioPart]:
    """The audio parts of a prompt by digest, in order."""
    return {
        part.digest: part
        for message in prompt.messages
        for part in message.parts
        if isinstance(part, AudioPart)
    }


def without_samples(prompt: Prompt) -> Prompt:
    """The prompt as it crosses, its audio parts digests alone."""
    return replace(
        prompt,
        messages=tuple(
            replace(
                message,
                parts=tuple(
                    replace(part, samples=_NO_SAMPLES) if isinstance(part, AudioPart) else part
                    for part in message.parts
                ),
            )
            for message in prompt.messages
        ),
    )
