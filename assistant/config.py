"""The configuration: every tunable, its default, and what is allowed.

`config.yaml` at the top of the repository holds the same values with the reasons for them; a test
keeps the two in step. Every key may be left out; unknown ones are errors.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError
from pydantic_core import ErrorDetails

from assistant.config_file import read_config
from assistant.engines.dashscope.settings import DashScopeSettings
from assistant.engines.embedded import EmbeddedSettings
from assistant.engines.openai_compatible.settings import OpenAICompatibleSettings
from assistant.engines.transformers import TransformersSettings
from assistant.errors import ConfigError
from assistant.settings import PathSetting, Settings, Several
from assistant.turns import BARGE_IN_MIN_SPEECH_MS
from audio_io.endpointer import MAX_TURN_S, TurnDetection
from audio_io.files import MAX_BYTES
from audio_io.ice import IceServer
from audio_io.sources import SourceLimits
from audio_io.vad import VadKind

_DETECTION = TurnDetection()
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
# As a subprotocol, which is how browsers send it, a key can have no other characters.
KEY_PATTERN = r"[A-Za-z0-9._~+-]+"
# How what has a form of its own is to be written.
_ADDRESS = "It should be an address, such as http://127.0.0.1:8000/v1"
_FORMS = {
    "server.api_key": "It should be letters, digits and -._~+ alone; several with commas between",
    "server.allowed_origins": "It should be as https://example.org, without a path",
    "webrtc.ice_servers": "It should be as stun:HOST:3478 or turn:HOST:3478?transport=tcp",
    "model.openai_compatible.base_urls": _ADDRESS,
    "model.dashscope.base_url": _ADDRESS,
}
# Where keys and credentials stand.
SECRETS = ("server.api_key", "webrtc.ice_servers")


class ServerConfig(Settings):
    """Where to listen, how, and who may come in."""

    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535)] = 8000
    api_key: Annotated[
        str | None, Field(pattern=rf"^{KEY_PATTERN}(,{KEY_PATTERN})*$", repr=False)
    ] = None
    api_key_file: PathSetting | None = None
    open_to_all: bool = False
    # As browsers write it: without a path, so without the last slash.
    allowed_origins: Several[Annotated[str, Field(pattern=r"^[a-z][a-z0-9+.-]*://[^/]+$")]] = ()
    allowed_hosts: Several[str] = ()
    tls_cert: PathSetting | None = None
    tls_key: PathSetting | None = None
    tls_self_signed: bool = False
    leave_s: Annotated[float, Field(ge=0, le=3600)] = 30.0

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        return self.host in LOOPBACK


class LimitsConfig(Settings):
    """How much one server and one client may hold."""

    max_sessions: Annotated[int, Field(ge=1, le=100_000)] = 64
    max_session_s: Annotated[int, Field(ge=1, le=86_400)] = 3600
    max_attached: Annotated[int, Field(ge=1, le=10_000)] = 16
    max_message_bytes: Annotated[int, Field(ge=1024, le=256 * 2**20)] = 15 * 2**20
    max_pending_events: Annotated[int, Field(ge=16, le=1_000_000)] = 1024
    send_timeout_s: Annotated[float, Field(gt=0, le=600)] = 10.0
    max_turn_s: Annotated[int, Field(ge=30, le=3600)] = MAX_TURN_S
    max_messages: Annotated[int, Field(ge=2, le=100_000)] = 1000
    max_audio_s: Annotated[float, Field(ge=30, le=86_400)] = 1800.0
    max_text_chars: Annotated[int, Field(ge=1000, le=1_000_000_000)] = 200_000
    max_client_secrets: Annotated[int, Field(ge=1, le=100_000)] = 1000
    client_secrets_per_minute: Annotated[int, Field(ge=1, le=100_000)] = 60


Port = Annotated[int, Field(ge=1024, le=65_535)]


class WebRtcConfig(Settings):
    """How calls find their way through networks."""

    ice_servers: Several[IceServer] = ()
    udp_ports: Annotated[tuple[Port, Port], Field(strict=False)] | None = None


class FilesConfig(Settings):
    """What is taken of recordings."""

    max_bytes: Annotated[int, Field(ge=1024, le=2**30)] = MAX_BYTES
    max_s: Annotated[float, Field(ge=1, le=86_400)] = 1800.0
    download_timeout_s: Annotated[float, Field(gt=0, le=3600)] = 30.0
    private_addresses: bool = False

    def limits(self) -> SourceLimits:
        return SourceLimits(**self.model_dump())


class ChatConfig(Settings):
    """Conversations that come whole with each request."""

    max_conversations: Annotated[int, Field(ge=1, le=100_000)] = 16
    max_request_bytes: Annotated[int, Field(ge=1024, le=2**30)] = 64 * 2**20


class TurnsConfig(Settings):
    """When a turn begins and ends, and what its pauses are used for."""

    vad: VadKind = "cascade"
    threshold: float = _DETECTION.threshold
    prefix_padding_ms: int = _DETECTION.prefix_padding_ms
    silence_duration_ms: int = _DETECTION.silence_duration_ms
    pause_ms: int = _DETECTION.pause_ms
    speculate: bool = True
    barge_in_min_speech_ms: Annotated[int, Field(ge=0, le=5000)] = BARGE_IN_MIN_SPEECH_MS

    def detection(self) -> TurnDetection:
        """Raises ValidationError where a value is out of its range."""
        return TurnDetection(
            threshold=self.threshold,
            prefix_padding_ms=self.prefix_padding_ms,
            silence_duration_ms=self.silence_duration_ms,
            pause_ms=self.pause_ms,
            confirm_ms=self.barge_in_min_speech_ms,
        )


class ModelConfig(Settings):
    """What answers, and how it is instructed."""

    engine: Literal["auto", "embedded", "transformers", "openai_compatible", "dashscope"] = "auto"
    name: Annotated[str | None, Field(min_length=1)] = None
    instructions: str = ""
    embedded: EmbeddedSettings = EmbeddedSettings()
    transformers: TransformersSettings = TransformersSettings()
    openai_compatible: OpenAICompatibleSettings = OpenAICompatibleSettings()
    dashscope: DashScopeSettings = DashScopeSettings()


class Config(Settings):
    """All settings. Make it with `load`, so that mistakes are told in plain words."""

    server: ServerConfig = ServerConfig()
    limits: LimitsConfig = LimitsConfig()
    webrtc: WebRtcConfig = WebRtcConfig()
    files: FilesConfig = FilesConfig()
    chat: ChatConfig = ChatConfig()
    turns: TurnsConfig = TurnsConfig()
    model: ModelConfig = ModelConfig()

    @classmethod
    def load(
        cls, path: Path | None = None, overrides: dict[str, dict[str, Any]] | None = None
    ) -> Self:
        """The settings in the YAML file at `path`, with `overrides` (section, key) laid over.

        Raises ConfigError that names each wrong key, its value and what is allowed.
        """
        data = read_config(path) if path else {}
        for section, values in (overrides or {}).items():
            if isinstance(given := data.get(section) or {}, dict):
                data[section] = {**given, **values}
        where = str(path) if path else "the configuration"
        # A section whose values are all commented out is null in YAML.
        data = {key: {} if value is None else value for key, value in data.items()}
        try:
            config = cls.model_validate(data)
        except ValidationError as error:
            raise ConfigError(_complaints(where, error)) from error
        try:
            config.turns.detection()
        except ValidationError as error:
            raise ConfigError(_complaints(where, error, section="turns")) from error
        _check_turns(config.turns)
        _check_server(config.server)
        ports = config.webrtc.udp_ports
        if ports and ports[0] > ports[1]:
            raise ConfigError(f"webrtc.udp_ports: {ports[0]} comes after {ports[1]}.")
        return config


def _check_turns(turns: TurnsConfig) -> None:
    # Whoever only makes turns end sooner has said nothing of pauses.
    if "pause_ms" in turns.model_fields_set and turns.pause_ms > turns.silence_duration_ms:
        raise ConfigError(
            f"turns.pause_ms: {turns.pause_ms} ms of silence are a pause, but "
            f"{turns.silence_duration_ms} end the turn (turns.silence_duration_ms)."
        )


def _check_server(server: ServerConfig) -> None:
    # Not validators of the section: what pydantic then reports holds all its values, the key too.
    has_key = server.api_key is not None or server.api_key_file is not None
    if not server.is_local and not has_key and not server.open_to_all:
        raise ConfigError(
            f"server.host is {server.host!r}, which others can reach, and there is no "
            "API key. Set one with --api-key or ASSISTANT_API_KEY, listen on 127.0.0.1, or let "
            "everyone in by --open-to-all."
        )
    if has_key and server.open_to_all:
        raise ConfigError("There is an API key, and --open-to-all asks for none: leave one out.")
    if (server.tls_cert is None) != (server.tls_key is None):
        raise ConfigError("A certificate needs its key: give both --tls-cert and --tls-key.")
    if server.tls_cert and server.tls_self_signed:
        raise ConfigError(
            "--tls-self-signed makes a certificate, and --tls-cert names one: leave one out."
        )


def _complaints(where: str, error: ValidationError, section: str | None = None) -> str:
    lines = []
    for problem in error.errors(include_url=False):
        location = ([section] if section else []) + [str(part) for part in problem["loc"]]
        key = ".".join(location)
        match problem["type"]:
            case "extra_forbidden" | "unexpected_keyword_argument":
                lines.append(f"{key}: unknown key")
            case "missing":
                lines.append(f"{key}: missing")
            case _ if key.startswith(SECRETS):
                # What was given isn't shown: this goes to terminals and logs.
                lines.append(f"{key}: not allowed: {_meant(key, problem)}")
            case _:
                meant = _meant(key, problem)
                lines.append(f"{key}: {problem['input']!r} is not allowed: {meant}")
    return f"{where}: " + "; ".join(lines)


def _meant(key: str, problem: ErrorDetails) -> str:
    """What is allowed there, in plain words."""
    match problem["type"]:
        case "string_pattern_mismatch":
            forms = (form for start, form in _FORMS.items() if key.startswith(start))
            return next(forms, problem["msg"])
        case "tuple_type" | "list_type":
            return "It should be a list"
        case "model_type" | "dataclass_type" | "dict_type":
            return "It should hold keys and values"
        case _:
            return problem["msg"].removeprefix("Value error, ")
