"""The configuration file: in step with the code, and mistakes told in plain words."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from assistant.config import Config
from assistant.errors import ConfigError

FILE = Path(__file__).parent.parent / "config.yaml"


def test_the_file_says_what_the_code_does() -> None:
    assert yaml.safe_load(FILE.read_text()) == Config().model_dump(mode="json")
    assert Config.load(FILE) == Config()


def test_every_setting_is_explained() -> None:
    lines = [line for line in FILE.read_text().splitlines() if line.startswith("  ")]
    assert [line for line in lines if "#" not in line] == []


def test_an_empty_file_and_empty_sections_mean_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    for text in ("", "# nothing", "server:\nturns:\n  # threshold: 0.7\n"):
        path.write_text(text)
        assert Config.load(path) == Config()


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("sever: {}", ["sever", "unknown key"]),
        ("server: {prot: 80}", ["server.prot", "unknown key"]),
        ("server: {port: 70000}", ["server.port", "70000", "less than or equal to 65535"]),
        ("server: {port: eighty}", ["server.port", "'eighty'"]),
        ("server: 5", ["server", "5", "keys and values"]),
        ("turns: {vad: best}", ["turns.vad", "'best'", "'silero'", "'webrtc'"]),
        ("turns: {threshold: 3}", ["turns.threshold", "3", "less than or equal to 0.95"]),
        ("turns: {silence_duration_ms: 1}", ["turns.silence_duration_ms", "1", "200"]),
        ("limits: {max_sessions: 0}", ["limits.max_sessions", "0", "greater than or equal to 1"]),
        ("server: {port: 70000}\nturns: {speculate: 7}", ["server.port", "turns.speculate"]),
        ("- a list", ["sections of keys and values"]),
        ("a: [", ["not valid YAML"]),
        ("a: [", ["line 1, column 5"]),
        ("a: 2024-13-45", ["not valid YAML"]),
        ("server: {\n  port: 1,\n  port: 2}", ["line 3, column 3", "port is there twice"]),
        ("server: {}\nserver: {}", ["line 2, column 1", "server is there twice"]),
        ("model: {instructions: '\0'}", ["not valid YAML", "special characters are not allowed"]),
        ("a: " + "[" * 5000, ["not valid YAML"]),
        ("{[a]: b}", ["not valid YAML", "unhashable"]),
        ("server: {port: true}", ["server.port", "True is not allowed", "valid integer"]),
        ("server: {port: '8000'}", ["server.port", "'8000' is not allowed"]),
        ("server: {port: 8000.0}", ["server.port", "8000.0 is not allowed"]),
        ("server: {open_to_all: 1}", ["server.open_to_all", "1 is not allowed"]),
        ("server: {open_to_all: 'yes'}", ["server.open_to_all", "'yes' is not allowed"]),
        ("server: {leave_s: '30'}", ["server.leave_s", "'30' is not allowed"]),
        ("turns: {threshold: .nan}", ["turns.threshold", "finite"]),
        ("webrtc: {udp_ports: [4000, true]}", ["webrtc.udp_ports.1", "True"]),
        ("model: {name: 5}", ["model.name", "5 is not allowed"]),
        ("model: {embedded: {words: 0}}", ["model.embedded.words", "0 is not allowed"]),
        ("model: {transformers: {cache_gb: .inf}}", ["model.transformers.cache_gb", "finite"]),
        ("model: {transformers: {step_timeout_s: .inf}}", ["step_timeout_s", "finite"]),
        ("model: {dashscope: {max_retries: true}}", ["model.dashscope.max_retries", "True"]),
        ("server: {api_key: 'open sesame'}", ["server.api_key", "letters, digits"]),
        ("server: {api_key: a, open_to_all: true}", ["--open-to-all", "leave one out"]),
        (
            "server: {allowed_origins: [a.example]}",
            ["allowed_origins.0", "'a.example'", "https://"],
        ),
        ("server: {allowed_origins: ['https://a.example/']}", ["server.allowed_origins.0"]),
        ("server: {tls_cert: a.pem}", ["both --tls-cert and --tls-key"]),
        (
            "server: {tls_cert: a.pem, tls_key: b.pem, tls_self_signed: true}",
            ["--tls-self-signed", "--tls-cert", "leave one out"],
        ),
        ("model: {engine: best}", ["model.engine", "'best'", "'transformers'"]),
        ("model: {transformers: {temperature: 0.001}}", ["temperature", "0.001", "at least 0.01"]),
        ("model: {transformers: {device: tpu}}", ["model.transformers.device", "'tpu'"]),
        ("model: {openai_compatible: {base_urls: [host]}}", ["base_urls.0", "'host'", "http://"]),
        ("model: {dashscope: {base_url: host}}", ["base_url", "'host'", "http://"]),
        (
            "model: {openai_compatible: {extra_body: {stream: false}}}",
            ["extra_body", "the engine itself sets stream"],
        ),
        ("webrtc: {udp_ports: [5000, 4000]}", ["webrtc.udp_ports", "5000 comes after 4000"]),
        ("webrtc: {udp_ports: 5000}", ["webrtc.udp_ports", "5000", "a list"]),
        ("webrtc: {ice_servers: [x]}", ["webrtc.ice_servers.0", "keys and values"]),
        (
            "turns: {pause_ms: 800}",
            ["turns.pause_ms", "800 ms", "700 end the turn", "turns.silence_duration_ms"],
        ),
        ("webrtc: {ice_servers: [{urls: 'x'}]}", ["webrtc.ice_servers.0.urls", "stun:HOST"]),
        ("server: {host: 0.0.0.0}", ["server.host", "API key", "--api-key", "--open-to-all"]),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, parts: list[str]) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        Config.load(path)
    for part in parts:
        assert part in str(caught.value)
    assert "pattern" not in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_turns_may_end_sooner_than_a_pause_begins() -> None:
    turns = Config.load(overrides={"turns": {"silence_duration_ms": 200}}).turns
    assert turns.detection().silence_duration_ms == 200


def test_paths_lists_and_whole_numbers_are_taken_as_they_are_written(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(
        "limits: &most {max_turn_s: 60}\n"
        "server: {tls_cert: a.pem, tls_key: b.pem, allowed_hosts: [a, b], leave_s: 5}\n"
        "webrtc: {udp_ports: [4000, 5000], ice_servers: [{urls: 'stun:a'}]}\n"
        "model: {openai_compatible: {base_urls: ['http://a/v1'], extra_body: {<<: *most}}}\n"
    )
    config = Config.load(path)
    assert (config.server.tls_key, config.server.allowed_hosts) == (Path("b.pem"), ("a", "b"))
    assert (config.server.leave_s, config.webrtc.udp_ports) == (5.0, (4000, 5000))
    assert config.model.openai_compatible.base_urls == ("http://a/v1",)
    assert config.model.openai_compatible.extra_body == {"max_turn_s": 60}


def test_a_missing_file_is_named() -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml can't be read: No such file"):
        Config.load(Path("nowhere.yaml"))


def test_options_go_before_the_file(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("server: {port: 1, host: localhost}")
    server = Config.load(path, {"server": {"port": 2}, "model": {}}).server
    assert (server.port, server.host) == (2, "localhost")


@pytest.mark.parametrize(
    "server", [{"api_key": "k"}, {"api_key_file": "keys"}, {"open_to_all": True}]
)
def test_others_are_let_in_with_a_key_or_where_it_is_asked_for(server: dict[str, object]) -> None:
    assert not Config.load(overrides={"server": {"host": "0.0.0.0", **server}}).server.is_local


def test_the_key_is_not_printed() -> None:
    assert "sesame" not in repr(Config.load(overrides={"server": {"api_key": "sesame"}}))
    turn = {"urls": "turn:a", "credential": ["sesame"]}
    for section, wrong in (
        ("server", {"api_key": "open sesame"}),
        ("server", {"api_key": "sesame", "port": "x"}),
        ("webrtc", {"ice_servers": [turn]}),
        ("webrtc", {"ice_servers": [{"credential": "sesame"}]}),
        ("webrtc", {"ice_servers": ["turn:me:sesame@example.org"]}),
    ):
        with pytest.raises(ConfigError) as caught:
            Config.load(overrides={section: wrong})
        assert "sesame" not in str(caught.value)
