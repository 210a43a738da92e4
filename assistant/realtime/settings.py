"""The settings of a Realtime session, and how a client changes them. Pure.

`session.update` merges, object by object: fields that are absent keep their value, `""` and `[]`
clear, and `null` is the server's own setting again; but for `turn_detection`, which it switches
off.
Clients written for the hosted API send fields that don't apply to text output from an open model
(voice, tracing, transcription): these are accepted, and the session shows what took effect.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError

from assistant.realtime.client_model import ClientModel
from assistant.realtime.complaints import check_length, check_total, protocol_error
from assistant.realtime.events import ResponseParams
from assistant.realtime.tools import (
    AskedToolChoice,
    Tools,
    check_tool_choice,
    tool_choice_of,
    tools_of,
)
from audio_io.endpointer import (
    LEAST_SILENCE_MS,
    LEAST_THRESHOLD,
    MOST_THRESHOLD,
    TurnDetection,
)

_DEFAULT = TurnDetection()

MAX_LANGUAGE_CHARS = 35
"""Of a tag for one, with region and variants (RFC 5646, section 4.4.1)."""

# A field of the API that has no effect here: taken as it comes, and neither kept nor shown.
Inert = Annotated[Any, BeforeValidator(lambda _: None), Field(exclude=True)]
# The same where the API's clients expect to see that it is off.
Off = Annotated[None, BeforeValidator(lambda _: None)]


class PcmFormat(ClientModel):
    """16-bit little-endian mono. 24 kHz is the API's; 16 kHz, the models' own rate, is ours."""

    type: Literal["audio/pcm"] = "audio/pcm"
    rate: Literal[24_000, 16_000] = 24_000


class G711Format(ClientModel):
    """A telephone's: 8 kHz mono, a byte a sample; μ-law or A-law."""

    type: Literal["audio/pcmu", "audio/pcma"]


AudioFormat = Annotated[PcmFormat | G711Format, Field(discriminator="type")]


def _within_reason(threshold: float) -> float:
    return min(max(threshold, LEAST_THRESHOLD), MOST_THRESHOLD)


def _long_enough(silence_ms: int) -> int:
    return max(silence_ms, LEAST_SILENCE_MS)


class ServerVad(ClientModel):
    """Turns are cut by the server's voice-activity detection.

    What the API allows and makes no sense becomes the nearest that does, and is shown.
    """

    type: Literal["server_vad"] = "server_vad"
    threshold: Annotated[float, Field(ge=0, le=1), AfterValidator(_within_reason)] = (
        _DEFAULT.threshold
    )
    prefix_padding_ms: int = _DEFAULT.prefix_padding_ms
    silence_duration_ms: Annotated[int, Field(ge=0), AfterValidator(_long_enough)] = (
        _DEFAULT.silence_duration_ms
    )
    create_response: bool = True
    interrupt_response: bool = True
    idle_timeout_ms: Annotated[int, Field(ge=1_000, le=600_000)] | None = None
    """Silence after a reply, before the model speaks up again; None: it never does."""


# Of pauses of 200 to 800 ms, 1000 ms take 1% for the end of the turn, and 500 ms 38%.
_WAIT_MS = {"low": 1_000, "high": 500}


class SemanticVad(ClientModel):
    """What agent frameworks ask for by default; server VAD takes its place.

    No rule was found that tells the end of a turn from a pause better than a fixed wait does
    (`benchmarks.hearing`), so eagerness is how long that is: as configured for `medium` and `auto`.
    """

    type: Literal["semantic_vad"]
    eagerness: Literal["low", "medium", "high", "auto"] = "auto"
    create_response: bool = True
    interrupt_response: bool = True


class Transcription(ClientModel):
    """What is said is written down, by the model that answers it, whichever is asked for."""

    language: Annotated[str, Field(max_length=MAX_LANGUAGE_CHARS)] | None = None
    """ISO 639-1; None: whatever is spoken."""
    prompt: str | None = None
    """What may help to understand it."""
    model: Inert = None
    delay: Inert = None
    keywords: Inert = None
    languages: Inert = None


class InputAudioSettings(ClientModel):
    format: AudioFormat = PcmFormat()
    noise_reduction: Off = None
    transcription: Transcription | None = None
    turn_detection: Annotated[ServerVad | SemanticVad, Field(discriminator="type")] | None = (
        ServerVad()
    )


class AudioSettings(ClientModel):
    input: InputAudioSettings = InputAudioSettings()
    output: Inert = None


class TokenLimits(ClientModel):
    post_instructions: Annotated[int, Field(ge=1)] | None = None
    """Most tokens of the conversation without its instructions."""


class RetentionRatio(ClientModel):
    """How much of a full context is kept when the oldest turns go."""

    type: Literal["retention_ratio"]
    retention_ratio: Annotated[float, Field(ge=0, le=1)]
    token_limits: TokenLimits | None = None


class SessionSettings(ClientModel):
    """What a client sees as `session`, and may change by `session.update`."""

    type: Literal["realtime"] = "realtime"
    # Clients ask for audio by default; what they get is text, and the session says so.
    output_modalities: Annotated[list[Literal["text"]], BeforeValidator(lambda _: ["text"])] = (
        Field(default=["text"])
    )
    instructions: str = ""
    tools: Tools = Field(default=[])
    tool_choice: AskedToolChoice = "auto"
    max_output_tokens: Annotated[int, Field(ge=1, le=4096)] | Literal["inf"] = "inf"
    audio: AudioSettings = AudioSettings()
    include: Inert = None
    model: Inert = None
    parallel_tool_calls: Inert = None
    prompt: Inert = None
    reasoning: Inert = None
    tracing: Inert = None
    truncation: Literal["auto", "disabled"] | RetentionRatio = "auto"

    def updated(self, patch: dict[str, Any], defaults: SessionSettings) -> SessionSettings:
        """These settings with a client's `patch` merged in; `defaults` are the server's own.

        Raises ProtocolError that names the field; nothing has changed then.
        """
        merged = _merged(self.model_dump(), patch, defaults.model_dump())
        try:
            settings = SessionSettings.model_validate(merged)
        except ValidationError as error:
            raise protocol_error(error, merged, prefix="session") from error
        settings.check_tool_choice()
        return settings._with_server_vad(defaults)

    def _with_server_vad(self, defaults: SessionSettings) -> SessionSettings:
        """Resolve a semantic VAD, and check the ranges of what detection is asked for."""
        wanted = self.audio.input.turn_detection
        if isinstance(wanted, SemanticVad):
            chosen = wanted.model_dump(include={"create_response", "interrupt_response"})
            if wanted.eagerness in _WAIT_MS:
                chosen["silence_duration_ms"] = _WAIT_MS[wanted.eagerness]
            vad = (defaults.turn_detection or ServerVad()).model_copy(update=chosen)
            input_ = self.audio.input.model_copy(update={"turn_detection": vad})
            audio = self.audio.model_copy(update={"input": input_})
            return self.model_copy(update={"audio": audio})
        try:
            self.detection()
        except ValidationError as error:
            path = "session.audio.input.turn_detection"
            asked = wanted.model_dump() if wanted else {}
            raise protocol_error(error, asked, prefix=path) from error
        return self

    def check_texts(self, max_chars: int, *, prefix: str = "session") -> None:
        """Raise ProtocolError where one that goes into prompts is longer than that.

        `prefix`: where the client has them.
        """
        tools_chars = sum(len(tool.model_dump_json()) for tool in self.tools)
        how = self.audio.input.transcription
        check_length(self.instructions, max_chars, param=f"{prefix}.instructions")
        check_total(tools_chars, max_chars, param=f"{prefix}.tools")
        if how and how.prompt:
            check_length(how.prompt, max_chars, param=f"{prefix}.audio.input.transcription.prompt")

    def check_tool_choice(self, *, prefix: str = "session") -> None:
        """Raise ProtocolError where it demands a call of a function that isn't offered."""
        choice = tool_choice_of(self.tool_choice)
        check_tool_choice(choice, tools_of(self.tools), param=f"{prefix}.tool_choice")

    def for_response(self, asked: ResponseParams) -> SessionSettings:
        """These settings as they are for a response that is asked for like this."""
        named = asked.model_dump(include={"instructions", "max_output_tokens"}, exclude_none=True)
        return self.model_copy(
            update={
                **named,
                "tools": self.tools if asked.tools is None else asked.tools,
                "tool_choice": asked.tool_choice or self.tool_choice,
            }
        )

    @property
    def turn_detection(self) -> ServerVad | None:
        """How turns are cut; None where the client commits them itself."""
        wanted = self.audio.input.turn_detection
        return wanted if isinstance(wanted, ServerVad) else None

    def detection(self, base: TurnDetection = _DEFAULT) -> TurnDetection | None:
        """What the segmenter is to be set to; `base` holds what clients have no say in."""
        if (vad := self.turn_detection) is None:
            return None
        return replace(
            base,
            threshold=vad.threshold,
            prefix_padding_ms=vad.prefix_padding_ms,
            silence_duration_ms=vad.silence_duration_ms,
        )


def _merged(
    current: dict[str, Any], patch: dict[str, Any], defaults: dict[str, Any]
) -> dict[str, Any]:
    """`current` with `patch` laid over it, object by object.

    An object of another `type` begins with the defaults for that type: what was said of one kind
    of turn detection means nothing to another.
    """
    merged = dict(current)
    for key, value in patch.items():
        default = defaults.get(key)
        if isinstance(value, dict):
            known = default if isinstance(default, dict) else {}
            merged[key] = _merged(_same_type(value, current.get(key), known), value, known)
        else:
            merged[key] = default if value is None and key != "turn_detection" else value
    return merged


def _same_type(value: dict[str, Any], current: Any, default: dict[str, Any]) -> dict[str, Any]:
    """What `value` is to be laid over: of the two, the first that is of its type."""
    if isinstance(current, dict) and value.get("type", current.get("type")) == current.get("type"):
        return current
    return default if value.get("type") == default.get("type") else {}
