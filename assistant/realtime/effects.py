"""What a RealtimeSession wants done; `live.py` does it. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from assistant.engines.engine import ReplyOptions
from assistant.prompt import Prompt
from assistant.realtime.response import Event
from audio_io.endpointer import TurnDetection
from audio_io.pcm import Int16Array


@dataclass(frozen=True, slots=True)
class Send:
    """Send this server event to everyone attached."""

    event: Event


@dataclass(frozen=True, slots=True)
class Feed:
    """Let the segmenter hear this."""

    samples: Int16Array
    """int16 (n,), mono."""
    sample_rate_hz: int


@dataclass(frozen=True, slots=True)
class ConfigureHearing:
    """Cut turns like this from now on; None: not at all."""

    detection: TurnDetection | None


@dataclass(frozen=True, slots=True)
class FlushHearing:
    """Take what was heard so far, and answer with `flushed`."""

    event_id: str | None
    """Of the client's event, for `flushed` to name where there was nothing to take."""
    idle: bool = False
    """It is taken since nobody has spoken for too long."""


@dataclass(frozen=True, slots=True)
class ClearHearing:
    """Forget what was heard so far."""


@dataclass(frozen=True, slots=True)
class Prefill:
    """Let the model take this in while the person goes on."""

    prompt: Prompt


@dataclass(frozen=True, slots=True)
class StartReply:
    """Ask the model for a reply, and answer with `generated` for each of its events."""

    reply_id: str
    prompt: Prompt
    options: ReplyOptions
    side: bool = False
    """Beside the conversation's own reply, whatever that is at."""


@dataclass(frozen=True, slots=True)
class CommitReply:
    """The speculative reply has become a real one."""

    reply_id: str


@dataclass(frozen=True, slots=True)
class CancelReply:
    """Stop the reply; what it still says is ignored."""

    reply_id: str


@dataclass(frozen=True, slots=True)
class Close:
    """The session is over."""

    reason: str


Effect = (
    Send
    | Feed
    | ConfigureHearing
    | FlushHearing
    | ClearHearing
    | Prefill
    | StartReply
    | CommitReply
    | CancelReply
    | Close
)
