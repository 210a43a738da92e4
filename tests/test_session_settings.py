"""session.update: what is absent stays, null sets back, and nonsense is named."""

from __future__ import annotations

from typing import Any

import pytest

from assistant.config import Config
from assistant.errors import ProtocolError
from assistant.realtime.registry import default_settings
from assistant.realtime.settings import ServerVad, SessionSettings, Transcription
from assistant.realtime.tools import FunctionTool
from audio_io.endpointer import TurnDetection

DEFAULTS = SessionSettings()
SHORTEST = {"silence_duration_ms": 200}


def updated(*patches: dict[str, Any], defaults: SessionSettings = DEFAULTS) -> SessionSettings:
    settings = defaults
    for patch in patches:
        settings = settings.updated(patch, defaults)
    return settings


def input_(**fields: Any) -> dict[str, Any]:
    return {"audio": {"input": fields}}


def vad(**fields: Any) -> dict[str, Any]:
    return input_(turn_detection={"type": "server_vad", **fields})


def test_what_is_absent_stays() -> None:
    settings = updated(
        {"type": "realtime", "instructions": "Be brief.", "max_output_tokens": 100},
        input_(turn_detection={"type": "server_vad", "silence_duration_ms": 900}),
        input_(turn_detection={"threshold": 0.6}),
        input_(format={"type": "audio/pcm", "rate": 16_000}),
    )
    assert settings.instructions == "Be brief."
    assert settings.max_output_tokens == 100
    assert settings.turn_detection is not None
    assert settings.turn_detection.silence_duration_ms == 900
    assert settings.turn_detection.threshold == 0.6
    assert settings.audio.input.format.rate == 16_000


def test_null_and_empty_clear() -> None:
    settings = updated(
        {
            "instructions": "Be brief.",
            "max_output_tokens": 100,
            "tools": [{"type": "function", "name": "f"}],
        },
        {"instructions": None, "max_output_tokens": None, "tools": []},
    )
    assert settings == SessionSettings()
    assert updated({"instructions": "x"}, {"instructions": ""}).instructions == ""
    assert updated(input_(turn_detection=None)).turn_detection is None
    again = updated(input_(turn_detection=None), input_(turn_detection={"type": "server_vad"}))
    assert again == SessionSettings()


def test_transcription_is_switched_on_changed_and_off() -> None:
    on = updated(input_(transcription={"model": "whisper-1", "language": "de"}))
    assert on.audio.input.transcription == Transcription(language="de", model="whisper-1")
    more = on.updated(input_(transcription={"prompt": "Names: Anke."}), DEFAULTS)
    shown = more.model_dump()["audio"]["input"]["transcription"]
    assert shown == {"language": "de", "prompt": "Names: Anke."}
    unnamed = more.updated(input_(transcription={"language": None}), DEFAULTS)
    assert unnamed.audio.input.transcription == Transcription(prompt="Names: Anke.")
    assert more.updated(input_(transcription=None), DEFAULTS) == DEFAULTS


def test_functions_and_what_is_to_be_done_about_them() -> None:
    tool = {"type": "function", "name": "f", "strict": True}
    named = {"type": "function", "name": "f"}
    settings = updated({"tools": [tool], "tool_choice": named})
    assert settings.tools == [FunctionTool(type="function", name="f")]
    assert settings.model_dump()["tool_choice"] == named
    assert settings.updated({"tool_choice": "required"}, DEFAULTS).tool_choice == "required"
    assert settings.updated({"tools": None, "tool_choice": None}, DEFAULTS) == DEFAULTS
    with pytest.raises(ProtocolError, match=r"Invalid value: \'mcp\'"):
        updated({"tools": [{"type": "mcp", "server_label": "x"}]})


def test_truncation_in_each_of_its_forms() -> None:
    ratio = {"type": "retention_ratio", "retention_ratio": 0.8}
    limited = updated(
        {"truncation": {**ratio, "token_limits": {"post_instructions": 100}}},
        {"truncation": {**ratio, "retention_ratio": 1}},
    )
    assert limited.model_dump()["truncation"] == {
        **ratio,
        "retention_ratio": 1.0,
        "token_limits": {"post_instructions": 100},
    }
    assert limited.updated({"truncation": "disabled"}, DEFAULTS).truncation == "disabled"
    assert limited.updated({"truncation": None}, DEFAULTS) == DEFAULTS
    for wrong in ({**ratio, "retention_ratio": 1.1}, "sometimes", {"type": "retention_ratio"}):
        with pytest.raises(ProtocolError) as caught:
            updated({"truncation": wrong})
        assert (caught.value.param or "").startswith("session.truncation")


CONFIGURED = default_settings(
    Config.load(
        overrides={
            "turns": {"threshold": 0.6, "prefix_padding_ms": 500, "silence_duration_ms": 900},
            "model": {"instructions": "Be kind."},
        }
    )
)
CHANGED = {"type": "server_vad", "threshold": 0.8, "silence_duration_ms": 300}


@pytest.mark.parametrize(
    "patches",
    [
        pytest.param([input_(turn_detection={"type": "semantic_vad"})], id="semantic_vad"),
        pytest.param(
            [input_(turn_detection=None), input_(turn_detection={"type": "server_vad"})],
            id="off and on again",
        ),
        pytest.param([input_(turn_detection=CHANGED), {"audio": None}], id="audio: null"),
        pytest.param([input_(turn_detection=CHANGED), {"audio": {"input": None}}], id="input"),
        pytest.param(
            [
                input_(turn_detection={**CHANGED, "prefix_padding_ms": 800}),
                input_(
                    turn_detection={
                        "threshold": None,
                        "prefix_padding_ms": None,
                        "silence_duration_ms": None,
                    }
                ),
            ],
            id="each by null",
        ),
        pytest.param([{"instructions": "Sing."}, {"instructions": None}], id="instructions"),
    ],
)
def test_what_is_set_back_is_as_the_server_is_configured(patches: list[dict[str, Any]]) -> None:
    settings = updated(*patches, defaults=CONFIGURED)
    assert settings == CONFIGURED
    assert settings.turn_detection == ServerVad(
        threshold=0.6, prefix_padding_ms=500, silence_duration_ms=900
    )


def test_detection_that_is_off_is_switched_on_by_its_type_alone() -> None:
    settings = updated(input_(turn_detection=None), defaults=CONFIGURED)
    with pytest.raises(ProtocolError):
        settings.updated(input_(turn_detection={"threshold": 0.7}), CONFIGURED)
    wanted = {"type": "server_vad", "threshold": 0.7}
    vad = settings.updated(input_(turn_detection=wanted), CONFIGURED).turn_detection
    assert vad is not None and (vad.threshold, vad.silence_duration_ms) == (0.7, 900)


def test_what_does_not_apply_is_accepted_and_shown_as_it_takes_effect() -> None:
    settings = updated(
        {
            "type": "realtime",
            "model": "gpt-realtime",
            "output_modalities": ["audio"],
            "tracing": "auto",
            "truncation": {"type": "retention_ratio", "retention_ratio": 0.8},
            "audio": {
                "input": {
                    "noise_reduction": {"type": "near_field"},
                    "transcription": {"model": "whisper-1"},
                    "turn_detection": {
                        "type": "semantic_vad",
                        "eagerness": "low",
                        "interrupt_response": False,
                    },
                },
                "output": {"voice": "ash", "format": {"type": "audio/pcm", "rate": 24_000}},
            },
        }
    )
    assert settings.output_modalities == ["text"]
    assert settings.audio.input.noise_reduction is None
    assert settings.model_dump()["audio"]["input"]["transcription"] == {
        "language": None,
        "prompt": None,
    }
    assert settings.turn_detection is not None
    assert settings.turn_detection.type == "server_vad"
    assert settings.turn_detection.interrupt_response is False
    assert settings.turn_detection.silence_duration_ms == 1_000
    assert "voice" not in str(settings.model_dump())
    assert (settings.tracing, settings.model, settings.audio.output) == (None, None, None)


@pytest.mark.parametrize("format", ["audio/pcmu", "audio/pcma"])
def test_a_telephone_s_formats(format: str) -> None:
    settings = updated(input_(format={"type": format}))
    assert settings.model_dump()["audio"]["input"]["format"] == {"type": format}
    assert updated(input_(format={"type": format}), input_(format=None)) == DEFAULTS
    assert updated(input_(format={"type": format}), input_(format={"type": "audio/pcm"})) == (
        DEFAULTS
    )


@pytest.mark.parametrize(
    ("patch", "param"),
    [
        (vad(create_response="true"), "turn_detection.create_response"),
        (vad(create_response=1), "turn_detection.create_response"),
        (vad(silence_duration_ms=500.0), "turn_detection.silence_duration_ms"),
        (vad(silence_duration_ms="500"), "turn_detection.silence_duration_ms"),
        (vad(silence_duration_ms=True), "turn_detection.silence_duration_ms"),
        (vad(threshold="0.5"), "turn_detection.threshold"),
        (vad(threshold=True), "turn_detection.threshold"),
        (input_(format={"type": "audio/pcm", "rate": "24000"}), "format.rate"),
        (input_(format={"type": "audio/pcmu", "rate": 8000}), "format.rate"),
    ],
)
def test_nothing_is_taken_for_something_of_another_type(patch: dict[str, Any], param: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        updated(patch)
    assert caught.value.param == f"session.audio.input.{param}"


@pytest.mark.parametrize(
    ("asked", "effective"),
    [
        ({"threshold": 0}, {"threshold": 0.1}),
        ({"threshold": 1.0}, {"threshold": 0.95}),
        ({"threshold": 0.7, "silence_duration_ms": 0}, {"threshold": 0.7, **SHORTEST}),
        ({"silence_duration_ms": 199}, SHORTEST),
    ],
)
def test_what_no_detection_can_do_becomes_the_nearest_that_it_can(
    asked: dict[str, Any], effective: dict[str, Any]
) -> None:
    settings = updated(vad(**asked))
    assert settings.turn_detection == ServerVad(**effective)
    assert settings.detection() == TurnDetection(**effective)


def test_a_whole_number_is_a_number() -> None:
    changed = updated({"max_output_tokens": 7}, vad(threshold=0.9), vad(prefix_padding_ms=600))
    assert changed.turn_detection is not None and changed.turn_detection.threshold == 0.9


@pytest.mark.parametrize("name", ["system", "int", "server_vad", "function-x", "literal[1]"])
@pytest.mark.parametrize("depth", [0, 1, 2, 3])
def test_a_field_is_named_as_the_client_wrote_it(name: str, depth: int) -> None:
    patch: dict[str, Any] = {name: 1}
    path = ["audio", "input", "turn_detection"][:depth]
    for key in reversed(path):
        patch = {key: patch}
    with pytest.raises(ProtocolError) as caught:
        updated(patch)
    assert caught.value.param == ".".join(["session", *path, name])


@pytest.mark.parametrize(
    ("patch", "param", "code", "text"),
    [
        (
            {"voice": "ash"},
            "session.voice",
            "unknown_parameter",
            "Unknown parameter: 'session.voice'.",
        ),
        (
            {"max_output_tokens": 0},
            "session.max_output_tokens",
            "integer_below_min_value",
            "Invalid 'session.max_output_tokens': integer below minimum value. Expected a value "
            ">= 1, but got 0 instead.",
        ),
        (
            {"max_output_tokens": "many"},
            "session.max_output_tokens",
            "invalid_type",
            "Invalid type for 'session.max_output_tokens': expected one of an integer or 'inf', "
            "but got a string instead.",
        ),
        (
            {"instructions": 5},
            "session.instructions",
            "invalid_type",
            "Invalid type for 'session.instructions': expected a string, but got an integer "
            "instead.",
        ),
        (
            {"type": "transcription"},
            "session.type",
            "invalid_value",
            "Invalid value: 'transcription'. Supported values are: 'realtime'.",
        ),
        (
            {"tools": [{"type": "function", "name": "x" * 129}]},
            "session.tools[0].name",
            "string_above_max_length",
            "Invalid 'session.tools[0].name': string too long. Expected a string with maximum "
            "length 128, but got a string with length 129 instead.",
        ),
        (
            {"tools": [{"type": "function", "name": "f"}] * 129},
            "session.tools",
            "array_above_max_length",
            "Invalid 'session.tools': array too long. Expected an array with maximum length 128, "
            "but got an array with length 129 instead.",
        ),
        (
            {"tool_choice": {"type": "function", "name": "x" * 129}},
            "session.tool_choice.name",
            "string_above_max_length",
            "Invalid 'session.tool_choice.name': string too long. Expected a string with maximum "
            "length 128, but got a string with length 129 instead.",
        ),
        (
            input_(transcription={"language": "x" * 36}),
            "session.audio.input.transcription.language",
            "string_above_max_length",
            "Invalid 'session.audio.input.transcription.language': string too long. Expected a "
            "string with maximum length 35, but got a string with length 36 instead.",
        ),
        (
            {"tool_choice": "sometimes"},
            "session.tool_choice",
            "invalid_value",
            "Invalid value: 'sometimes'. Supported values are: 'auto', 'none', and 'required'.",
        ),
        (
            {"tool_choice": True},
            "session.tool_choice",
            "invalid_type",
            "Invalid type for 'session.tool_choice': expected one of an object, 'auto', 'none', or "
            "'required', but got a boolean instead.",
        ),
        (
            {
                "tools": [{"type": "function", "name": "f"}],
                "tool_choice": {"type": "function", "name": "g"},
            },
            "session.tool_choice",
            "invalid_value",
            "Invalid value for 'session.tool_choice': there is no function 'g' among the tools.",
        ),
        (
            {"tool_choice": "required"},
            "session.tool_choice",
            "invalid_value",
            "Invalid value for 'session.tool_choice': 'required', and there are no tools.",
        ),
        (
            {"truncation": {"type": "retention_ratio", "retention_ratio": 1.5}},
            "session.truncation.retention_ratio",
            "decimal_above_max_value",
            "Invalid 'session.truncation.retention_ratio': decimal above maximum value. Expected a "
            "value <= 1.0, but got 1.5 instead.",
        ),
        (
            {"truncation": {"type": "retention_ratio"}},
            "session.truncation.retention_ratio",
            "missing_required_parameter",
            "Missing required parameter: 'session.truncation.retention_ratio'.",
        ),
        (
            input_(format={"type": "audio/pcm", "rate": 8000}),
            "session.audio.input.format.rate",
            "invalid_value",
            "Invalid value: 8000. Supported values are: 24000 and 16000.",
        ),
        (
            input_(format="pcm16"),
            "session.audio.input.format",
            "invalid_type",
            "Invalid type for 'session.audio.input.format': expected an object, but got a string "
            "instead.",
        ),
        (
            input_(turn_detection={"type": "guess"}),
            "session.audio.input.turn_detection.type",
            "invalid_value",
            "Invalid value: 'guess'. Supported values are: 'server_vad' and 'semantic_vad'.",
        ),
        (
            input_(turn_detection={"silence_ms": 5}),
            "session.audio.input.turn_detection.silence_ms",
            "unknown_parameter",
            "Unknown parameter: 'session.audio.input.turn_detection.silence_ms'.",
        ),
        (
            input_(turn_detection={"threshold": 2}),
            "session.audio.input.turn_detection.threshold",
            "decimal_above_max_value",
            "Invalid 'session.audio.input.turn_detection.threshold': decimal above maximum value. "
            "Expected a value <= 1.0, but got 2 instead.",
        ),
        (
            input_(turn_detection={"silence_duration_ms": -1}),
            "session.audio.input.turn_detection.silence_duration_ms",
            "integer_below_min_value",
            "Invalid 'session.audio.input.turn_detection.silence_duration_ms': integer below "
            "minimum value. Expected a value >= 0, but got -1 instead.",
        ),
    ],
)
def test_nonsense_is_named_and_changes_nothing(
    patch: dict[str, Any], param: str, code: str, text: str
) -> None:
    settings = SessionSettings()
    with pytest.raises(ProtocolError) as caught:
        settings.updated(patch, DEFAULTS)
    assert (caught.value.param, caught.value.code, str(caught.value)) == (param, code, text)
    assert settings == SessionSettings()


@pytest.mark.parametrize(
    ("semantic", "silence_duration_ms"),
    [
        ({}, 650),
        ({"eagerness": "auto"}, 650),
        ({"eagerness": "medium"}, 650),
        ({"eagerness": "low"}, 1_000),
        ({"eagerness": "high"}, 500),
    ],
)
def test_eagerness_is_how_long_the_end_of_a_turn_is_waited_for(
    semantic: dict[str, str], silence_duration_ms: int
) -> None:
    defaults = updated(vad(threshold=0.6, silence_duration_ms=650))
    asked = input_(turn_detection={"type": "semantic_vad", **semantic})
    settings = updated(asked, defaults=defaults)
    assert settings.turn_detection == ServerVad(
        threshold=0.6, silence_duration_ms=silence_duration_ms
    )
