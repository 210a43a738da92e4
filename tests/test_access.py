"""Who may come in, by the headers of a request."""

from __future__ import annotations

from typing import Any

import pytest

from assistant.access import check
from assistant.config import ServerConfig

LOCAL = ServerConfig()
KEYED = ServerConfig(api_key="secret")
PUBLIC = ServerConfig(host="0.0.0.0", api_key="secret")
HOST = "127.0.0.1:8000"


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
    ],
)
def test_who_may_come_in(config: ServerConfig, scope: dict[str, Any], refusal: str | None) -> None:
    refused = check(scope, config)
    assert (refused.code if refused else None) == refusal
