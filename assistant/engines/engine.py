"""The interface between a conversation and whatever model answers it.

An `Engine` is loaded once per process; each conversation opens a `ModelSession`, which keeps what
the model has computed for it. The prompt is declared whole with every call, and the session keeps
the longest common prefix with what it already holds and computes only the rest. Speculation and
its rollback, barge-in, edited items and a lost cache are therefore all the same operation.

One main operation runs per session: starting another cancels the unfinished one and waits for it.
`side` replies run beside it and leave the kept prefix whole.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Literal, Protocol

from assistant.prompt import Prompt

Mode = Literal["voice_chat", "audio_analysis", "text", "continuation"]
"""What a model may be given: audio alone, audio and text in one message, text alone; or, where it
answers nobody, something that it goes on with."""


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What an engine can do; constant once it has started."""

    model: str
    """The model's name, as clients see it."""
    context_tokens: int
    """Most tokens that a prompt and its reply may take together."""
    device: str = "cpu"
    """What it computes on, in words."""
    max_audio_s: float = 30.0
    """Longest audio part that the model takes."""
    tools: bool = False
    """Whether the model can call functions."""
    transcribes: bool = False
    """Whether it knows a request for a transcript, beside what can be asked in words."""
    modes: frozenset[Mode] = frozenset({"text"})


@dataclass(frozen=True, slots=True)
class TokenCount:
    """Tokens by what they stand for."""

    text: int = 0
    audio: int = 0

    @property
    def total(self) -> int:
        return self.text + self.audio


@dataclass(frozen=True, slots=True)
class PrefillReport:
    """What it took to bring the session to the end of a prompt."""

    prompt: TokenCount
    """The whole prompt."""
    reused: TokenCount
    """Of these, already held by the session."""
    dropped_tokens: int = 0
    """Tokens that were held and no longer fit the prompt."""


@dataclass(frozen=True, slots=True)
class ReplyOptions:
    """How a reply is to be made."""

    max_output_tokens: int | None = None
    """None: as many as the engine allows."""
    speculative: bool = False
    """The turn is not yet over: decode ahead only up to the engine's bound, after committed work,
    until `Reply.commit()`."""
    transcribe: str | None = None
    """Write down what is said in the prompt's sounds, in this language (ISO 639-1; "": whichever),
    and nothing else; for engines that know such a request."""
    temperature: float | None = None
    """Of sampling: 0 takes the likeliest token each time; None: as the engine is set up."""

    @property
    def sampling(self) -> dict[str, float]:
        """What of this is about sampling, by the names that servers know."""
        return {} if self.temperature is None else {"temperature": self.temperature}


@dataclass(frozen=True, slots=True)
class Usage:
    """What a finished reply cost."""

    input: TokenCount
    cached: TokenCount
    """Of the input, reused from what the session held."""
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Timings:
    """Where a reply's time went, in ms of the engine's clock."""

    prefill_ms: float
    """From the call to the prompt's end."""
    first_token_ms: float
    """From the call to the first text."""
    total_ms: float
    """From the call to the end."""


@dataclass(frozen=True, slots=True)
class Started:
    """The prompt is in; tokens follow."""

    report: PrefillReport


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of the reply: whole characters."""

    text: str
    ids: tuple[int, ...]
    """The token ids that the piece was made of, to be kept in `TextPart.token_ids`."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """The model asks the client to call a function."""

    call_id: str
    name: str
    arguments: str
    """JSON, as the model wrote it."""
    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Finished:
    """The reply's last event."""

    reason: Literal["stop", "length"]
    """The model ended it, or it reached `max_output_tokens` or the context's end."""
    usage: Usage
    timings: Timings


ReplyEvent = Started | Text | ToolCall | Finished


class Reply(Protocol):
    """A reply in the making. Iterate it once; a model's failure is raised there as EngineError."""

    def __aiter__(self) -> AsyncIterator[ReplyEvent]: ...

    def commit(self) -> None:
        """The turn is real: lifts the bound on decoding ahead and the low priority."""

    async def cancel(self) -> None:
        """Stop at the next token; returns when the session may be used again. Idempotent."""


class ModelSession(Protocol):
    """One conversation's state in the model."""

    async def count(self, prompt: Prompt) -> TokenCount:
        """How many tokens `prompt` takes; computes nothing in the model."""

    async def prefill(self, prompt: Prompt) -> PrefillReport:
        """Bring the kept state to the end of `prompt` before a reply is asked for."""

    def reply(self, prompt: Prompt, options: ReplyOptions, *, side: bool = False) -> Reply:
        """Answer `prompt`. Work begins when the reply is iterated."""

    async def close(self) -> None:
        """Free what the model holds for this conversation, cancelling what runs. Idempotent."""


class Engine(Protocol):
    """A model, loaded once, that serves many conversations."""

    info: EngineInfo

    async def start(self) -> None:
        """Load and warm up; /health is 200 after. Raises EngineError with what would help."""

    async def open_session(self) -> ModelSession: ...

    async def close(self) -> None: ...
