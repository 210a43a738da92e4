"""Who may come in, by the headers of a request."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from assistant.access import Door, Refusal, read_api_keys
from assistant.config import ServerConfig
from assistant.errors import ConfigError
from assistant.realtime.secrets import ClientSecretRequest, ClientSecrets

LOCAL = ServerConfig()
KEYED = ServerConfig(api_key="secret")
PUBLIC = ServerConfig(host="0.0.0.0", api_key="secret")
OPEN = ServerConfig(host="0.0.0.0", open_to_all=True)
HOST = "127.0.0.1:8000"
NOW_S = 1_000_000.0


def door(config: ServerConfig, *secrets: ClientSecretRequest) -> Door:
    """A door for which these client secrets, ek_0 and so on, were minted at NOW_S."""
    numbers = iter(range(len(secrets)))
    minted = ClientSecrets(10, new_value=lambda: str(next(numbers)))
    for secret in secrets:
        minted.mint(secret, NOW_S)
    return Door(config, read_api_keys(config), minted)


def request(path: str = "/v1/realtime", **headers: str) -> dict[str, Any]:
    subprotocols = headers.pop("subprotocols", "").split()
    headers = {"host": HOST, **headers}
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    return {"type": "websocket", "path": path, "headers": raw, "subprotocols": subprotocols}


@pytest.mark.parametrize(
    ("config", "scope", "refusal"),
    [
        (LOCAL, request(), None),
        (LOCAL, request(host="localhost:8000"), None),
        (LOCAL, request(host="[::1]:8000"), None),
        (LOCAL, request(host="evil.example:8000"), "host_not_allowed"),
        (LOCAL, request(host=""), "host_not_allowed"),
        (LOCAL, request(host="[::1"), "host_not_allowed"),
        (LOCAL, request(origin="http://["), "origin_not_allowed"),
        (LOCAL, request(host="127.0.0.1.evil.example"), "host_not_allowed"),
        (LOCAL, request(origin=f"http://{HOST}"), None),
        (LOCAL, request(origin="https://evil.example"), "origin_not_allowed"),
        (LOCAL, request(origin="http://127.0.0.1:9000"), "origin_not_allowed"),
        (LOCAL, request(origin="null"), "origin_not_allowed"),
        (LOCAL, request("/", origin="https://evil.example"), "origin_not_allowed"),
        (
            ServerConfig(allowed_origins=("https://good.example",)),
            request(origin="https://good.example"),
            None,
        ),
        (ServerConfig(allowed_hosts=("box.lan",)), request(host="box.lan:8000"), None),
        (KEYED, request(), "missing_api_key"),
        (KEYED, request("/"), None),
        (KEYED, request("/web/app.js"), None),
        (KEYED, request("/health"), None),
        (KEYED, request("/metrics"), "missing_api_key"),
        (KEYED, request("/webrtc/offer"), "missing_api_key"),
        (KEYED, request(authorization="Bearer secret"), None),
        (KEYED, request(authorization="bearer secret"), None),
        (KEYED, request(authorization="Basic secret"), "missing_api_key"),
        (KEYED, request(authorization="Bearer wrong"), "invalid_api_key"),
        (KEYED, request(authorization="Bearer s\u00e9cret"), "invalid_api_key"),
        (KEYED, request(subprotocols="realtime openai-insecure-api-key.secret"), None),
        (KEYED, request(subprotocols="realtime openai-insecure-api-key.no"), "invalid_api_key"),
        (PUBLIC, request(host="anything.example", authorization="Bearer secret"), None),
        (PUBLIC, request(host="anything.example"), "missing_api_key"),
        (ServerConfig(api_key="one,secret"), request(authorization="Bearer secret"), None),
        (ServerConfig(api_key="one,secret"), request(authorization="Bearer one"), None),
        (
            ServerConfig(api_key="one,secret"),
            request(authorization="Bearer one,secret"),
            "invalid_api_key",
        ),
        (OPEN, request(host="192.168.1.5:8000"), None),
        (OPEN, request(host="[fe80::1]:8000"), None),
        (OPEN, request(host="evil.example"), "host_not_allowed"),
        (LOCAL, request(host="192.168.1.5:8000"), "host_not_allowed"),
        (KEYED, request(authorization="Bearer ek_0"), "invalid_api_key"),
    ],
)
def test_who_may_come_in(config: ServerConfig, scope: dict[str, Any], refusal: str | None) -> None:
    checked = door(config).check(scope, NOW_S)
    assert (checked.code if isinstance(checked, Refusal) else checked) == refusal


@pytest.mark.parametrize(
    ("path", "after_s", "refusal"),
    [
        ("/v1/realtime", 0, None),
        ("/v1/realtime/calls", 59, None),
        ("/v1/realtime/calls/sess_1/hangup", 59, None),
        ("/webrtc/offer", 59, None),
        ("/v1/realtime", 60, "invalid_api_key"),
        ("/v1/realtime/client_secrets", 0, "insufficient_permissions"),
        ("/metrics", 0, "insufficient_permissions"),
        ("/", 60, None),
    ],
)
def test_a_client_secret_opens_conversations_until_it_expires(
    path: str, after_s: float, refusal: str | None
) -> None:
    secret = ClientSecretRequest.parse(
        {"expires_after": {"seconds": 60}, "session": {"instructions": "Be brief."}}
    )
    for key in (
        {"authorization": "Bearer ek_0"},
        {"subprotocols": "realtime openai-insecure-api-key.ek_0"},
    ):
        checked = door(KEYED, secret).check(request(path, **key), NOW_S + after_s)
        if isinstance(checked, Refusal):
            assert checked.code == refusal
        else:
            assert refusal is None
            good_still = after_s < 60
            assert (checked is not None) == good_still
            assert checked is None or checked.session == {"instructions": "Be brief."}


def test_where_no_key_is_needed_a_client_secret_still_brings_its_settings() -> None:
    secret = ClientSecretRequest(session={"instructions": "Be brief."})
    checked = door(LOCAL, secret).check(request(authorization="Bearer ek_0"), NOW_S)
    assert not isinstance(checked, Refusal) and checked is not None
    assert checked.session == secret.session
    assert door(LOCAL).check(request(authorization="Bearer ek_0"), NOW_S) is None


def test_keys_come_from_settings_and_file(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("# ours\n\n  two \nthree\r\n")
    keys = read_api_keys(ServerConfig(api_key="one", api_key_file=file))
    assert [key in keys for key in ("one", "two", "three", "# ours", "", "thre")] == [
        *(True, True, True),
        *(False, False, False),
    ]
    assert not read_api_keys(ServerConfig())


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("# none\n", "holds no keys"),
        ("one\nopen sesame\n", "line 2: a key has only letters"),
        ("\xff", "can't be read"),
    ],
)
def test_a_file_without_good_keys_is_refused(tmp_path: Path, content: str, complaint: str) -> None:
    file = tmp_path / "keys"
    file.write_bytes(content.encode("latin-1"))
    with pytest.raises(ConfigError, match=complaint) as caught:
        read_api_keys(ServerConfig(api_key_file=file))
    assert "sesame" not in str(caught.value)


def test_a_file_that_is_missing_is_named() -> None:
    with pytest.raises(ConfigError, match=r"nowhere can't be read: .*No such file"):
        read_api_keys(ServerConfig(api_key_file=Path("nowhere")))
