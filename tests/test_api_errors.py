"""Whatever is asked for over HTTP, what goes wrong is told in the API's form."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI

from assistant.config import Config
from assistant.engines.engine import EngineInfo
from assistant.server import create_app
from tests.scripted_engine import ScriptedModel
from tests.test_websocket_end import SCOPE

SDP = {"content-type": "application/sdp"}
FORM = {"content-type": "multipart/form-data; boundary=x"}


class Failing(ScriptedModel):
    async def open_session(self) -> Any:
        raise RuntimeError("a bug")


@asynccontextmanager
async def client_of(
    model: ScriptedModel | None = None, **limits: Any
) -> AsyncIterator[httpx.AsyncClient]:
    """Asks an application of its own, without a network between."""
    app = create_app(Config.load(overrides={"limits": limits}), model or ScriptedModel())
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client,
    ):
        yield client


async def test_nothing_but_the_protocol_speaks_by_websocket() -> None:
    app = create_app(Config(), ScriptedModel())
    for path in ("/v1/nothing", "/", "/web/app.js"):
        said: list[Any] = []

        async def send(message: Any, said: list[Any] = said) -> None:
            said.append(message)

        extensions = {"websocket.http.response": {}}
        await app({**SCOPE, "path": path, "extensions": extensions}, asyncio.Queue().get, send)
        assert [message.get("status") for message in said] == [404, None]
        error = json.loads(said[-1]["body"])["error"]
        assert error["message"] == f"Invalid URL (GET {path})"


@pytest.mark.parametrize(
    ("method", "path", "request_", "status", "code", "param", "message"),
    [
        ("GET", "/v1/nothing", {}, 404, None, None, "Invalid URL (GET /v1/nothing)"),
        ("POST", "/v1/", {}, 404, None, None, "Invalid URL (POST /v1/)"),
        (
            "GET",
            "/v1/chat/completions",
            {},
            405,
            "method_not_supported",
            None,
            "Only POST requests are accepted.",
        ),
        (
            "DELETE",
            "/v1/models",
            {},
            405,
            "method_not_supported",
            None,
            "Only GET requests are accepted.",
        ),
        (
            "GET",
            "/v1/models/gpt-realtime",
            {},
            404,
            "model_not_found",
            "model",
            "The model 'gpt-realtime' does not exist; 'scripted' does.",
        ),
        (
            "GET",
            "/v1/realtime",
            {},
            426,
            "upgrade_required",
            None,
            "Connect to this URL by a websocket, or POST an SDP offer to /v1/realtime/calls.",
        ),
        (
            "POST",
            "/v1/realtime/calls",
            {"content": "v=0\r\nm=audio\r\n", "headers": SDP},
            400,
            "invalid_offer",
            None,
            "This is no valid SDP offer: a line of it can't be read.",
        ),
        (
            "POST",
            "/v1/realtime/calls",
            {"content": "v=0", "headers": {"content-type": "text/plain"}},
            400,
            "invalid_offer",
            None,
            "The content type is 'text/plain'; send the offer as application/sdp, or as "
            "multipart/form-data with the parts 'sdp' and 'session'.",
        ),
        (
            "POST",
            "/v1/realtime/calls",
            {"content": "--x\r\nno header\r\n\r\n--x--", "headers": FORM},
            400,
            "invalid_offer",
            None,
            None,
        ),
        (
            "POST",
            "/v1/realtime/calls",
            {"content": "", "headers": {"content-type": "multipart/form-data"}},
            400,
            "invalid_offer",
            None,
            "The form can't be read: Missing boundary in multipart.",
        ),
        (
            "POST",
            "/v1/realtime/calls",
            {"files": {str(number): "x" for number in range(3)}},
            400,
            "invalid_offer",
            None,
            "The form can't be read: Too many files. Maximum number of files is 2.",
        ),
        (
            "POST",
            "/v1/realtime/client_secrets",
            {"json": {"session": {"tools": [{"type": "mcp"}]}}},
            400,
            "invalid_value",
            "session.tools[0].type",
            "Invalid value: 'mcp'. Supported values are: 'function'.",
        ),
        (
            "POST",
            "/v1/realtime/calls/none/hangup",
            {},
            404,
            "call_not_found",
            None,
            "There is no call with the id 'none'.",
        ),
    ],
)
async def test_the_fault_of_who_asks(
    method: str,
    path: str,
    request_: dict[str, Any],
    status: int,
    code: str | None,
    param: str | None,
    message: str | None,
) -> None:
    async with client_of() as client:
        answer = await client.request(method, path, **request_)
    error = answer.json()["error"]
    assert answer.status_code == status
    assert error == {
        "message": message or error["message"],
        "type": "invalid_request_error",
        "param": param,
        "code": code,
    }
    assert error["message"] and "Error" not in error["message"]


async def test_the_methods_that_may_be_used_are_named() -> None:
    async with client_of() as client:
        assert (await client.put("/v1/models")).headers["allow"] == "GET"


async def test_our_own_fault() -> None:
    question = {"messages": [{"role": "user", "content": "Hi"}]}
    async with client_of(Failing()) as client:
        answer = await client.post("/v1/chat/completions", json=question)
    assert answer.status_code == 500
    assert answer.json()["error"] == {
        "message": "The server failed; its log has the details.",
        "type": "server_error",
        "param": None,
        "code": "server_error",
    }


async def test_too_many_requests() -> None:
    async with client_of(client_secrets_per_minute=1) as client:
        await client.post("/v1/realtime/client_secrets")
        answer = await client.post("/v1/realtime/client_secrets")
    assert answer.status_code == 429
    assert (answer.json()["error"]["type"], answer.json()["error"]["code"]) == (
        "requests",
        "rate_limit_exceeded",
    )


class Named(ScriptedModel):
    info = EngineInfo("Qwen/Qwen2-Audio-7B-Instruct", 8192)


async def test_the_sdk_finds_the_model_by_its_name() -> None:
    async with (
        client_of(Named()) as http,
        AsyncOpenAI(api_key="x", base_url="http://127.0.0.1/v1", http_client=http) as sdk,
    ):
        (listed,) = [model async for model in sdk.models.list()]
        assert await sdk.models.retrieve(listed.id) == listed
        with pytest.raises(openai.NotFoundError) as caught:
            await sdk.models.retrieve("gpt-4o")
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
