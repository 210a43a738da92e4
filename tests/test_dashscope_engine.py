"""Qwen-Audio by DashScope's API: what is sent, what comes of it, and what may go wrong."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

pytest.importorskip("dashscope", reason="needs the package: pip install dashscope")

from assistant.engines.dashscope.engine import DashScopeEngine
from assistant.engines.dashscope.settings import DashScopeSettings
from assistant.engines.engine import (
    Finished,
    ModelSession,
    Reply,
    ReplyEvent,
    ReplyOptions,
    Started,
    Text,
    TokenCount,
    Usage,
)
from assistant.errors import EngineError, GaveWayError, PromptTooLongError
from assistant.prompt import FunctionCall, Message, Prompt
from tests.chat_server import Answer, ChatServer, chat_server
from tests.dialogue import assistant, prompt, system, user
from tests.speech import silence

QUESTION = prompt(user("Are you there?"))


@dataclass
class DashScopeServer(ChatServer):
    """The same with DashScope's words."""

    path: ClassVar[str] = "/api/v1/services/aigc/multimodal-generation/generation"

    def chunk(self, text: str | None, finish_reason: str | None = None) -> dict[str, Any]:
        content = [{"text": text}] if text else []
        choice = {
            "message": {"role": "assistant", "content": content},
            "finish_reason": finish_reason or "null",
        }
        usage = {"input_tokens": 33, "output_tokens": 1, "audio_tokens": 85}
        return {"output": {"choices": [choice]}, "usage": usage, "request_id": "request-1"}

    def ending(self, answer: Answer) -> list[dict[str, Any]]:
        last = self.chunk(None, answer.finish_reason)
        return [{**last, "usage": answer.usage or last["usage"]}]


@pytest.fixture
async def server() -> AsyncIterator[DashScopeServer]:
    async with chat_server(DashScopeServer) as server:
        yield server


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DASHSCOPE_API_KEY", "sk-sesame")
    monkeypatch.setattr("assistant.engines.remote.servers.FIRST_REST_S", 0.01)


@asynccontextmanager
async def session_with(
    server: ChatServer, model: str | None = None, **given: Any
) -> AsyncIterator[ModelSession]:
    settings = DashScopeSettings(base_url=f"http://{server.address}/api/v1", **given)
    engine = DashScopeEngine(model, settings)
    try:
        await engine.start()
        session = await engine.open_session()
        yield session
        await session.close()
    finally:
        await engine.close()


async def events_of(reply: Reply) -> list[ReplyEvent]:
    return [event async for event in reply]


async def text_of(reply: Reply) -> str:
    return "".join([event.text async for event in reply if isinstance(event, Text)])


def ask(session: ModelSession, about: Prompt = QUESTION, **options: Any) -> Reply:
    return session.reply(about, ReplyOptions(**options))


async def test_a_reply_in_pieces(server: DashScopeServer) -> None:
    usage = {"input_tokens": 33, "output_tokens": 10, "audio_tokens": 85}
    server.will("This ", "audio", usage=usage)
    async with session_with(server) as session:
        started, *texts, finished = await events_of(ask(session))
    assert isinstance(started, Started)
    assert texts == [Text("This ", ()), Text("audio", ())]
    assert isinstance(finished, Finished) and finished.reason == "stop"
    # Its input tokens are those of text alone.
    assert finished.usage == Usage(TokenCount(33, 85), TokenCount(), output_tokens=10)


async def test_the_request_of_each_reply_is_told(
    server: DashScopeServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "assistant")
    server.will("This ", "audio")
    server.will("One", then="cuts")
    async with session_with(server) as session:
        await events_of(ask(session))
        with pytest.raises(EngineError):
            await events_of(ask(session))
    told = [record.message for record in caplog.records if record.levelno == logging.INFO]
    assert told == [f"{server.address} answers (request request-1)."] * 2


async def test_a_conversation_on_the_wire(server: DashScopeServer) -> None:
    about = prompt(
        system("Be brief."), user(silence(500)), assistant("Nothing."), user(silence(100), "Sure?")
    )
    async with session_with(server, parameters={"top_p": 0.5, "temperature": 0.7}) as session:
        await events_of(ask(session, about, temperature=0))
    (request,) = server.requests
    (first,) = request["input"]["messages"][1]["content"]
    second, text = request["input"]["messages"][3]["content"]
    for audio in (first, second):
        assert audio["audio"].startswith("data:;base64,UklGR")
    assert text == {"text": "Sure?"}
    assert request["input"]["messages"][0] == {"role": "system", "content": [{"text": "Be brief."}]}
    assert request["input"]["messages"][2]["content"] == [{"text": "Nothing."}]
    assert request["model"] == "qwen-audio-turbo-latest"
    assert request["parameters"] == {
        "incremental_output": True,
        "result_format": "message",
        "max_tokens": 1024,
        "top_p": 0.5,
        "temperature": 0,
    }
    assert server.keys == ["Bearer sk-sesame"]


async def test_a_text_that_is_the_path_of_a_file_is_a_text(
    server: DashScopeServer, tmp_path: Path
) -> None:
    file = tmp_path / "secret.txt"
    file.write_text("secret")
    async with session_with(server) as session:
        for text in (str(file), file.as_uri()):
            await events_of(ask(session, prompt(user(text))))
    sent = [request["input"]["messages"][0]["content"] for request in server.requests]
    assert sent == [[{"text": str(file)}], [{"text": file.as_uri()}]]


@pytest.mark.parametrize(
    ("model", "wanted", "sent", "room"),
    [
        ("qwen-audio-turbo", None, 1024, 6000),
        ("qwen-audio-turbo", 9000, 1500, 6000),
        ("qwen-audio-turbo-latest", 9000, 2048, 6144),
        ("qwen2-audio-instruct", 7, 7, 6144),
    ],
)
async def test_models_have_limits_of_their_own(
    server: DashScopeServer, model: str, wanted: int | None, sent: int, room: int
) -> None:
    async with session_with(server, model) as session:
        await events_of(ask(session, max_output_tokens=wanted))
    assert server.requests[0]["parameters"]["max_tokens"] == sent
    info = DashScopeEngine(model, DashScopeSettings()).info
    assert (info.context_tokens, info.max_audio_s) == (room, 30)


async def test_not_every_model_answers_audio_alone(server: DashScopeServer) -> None:
    spoken = prompt(user(silence(500)))
    async with session_with(server, "qwen-audio-turbo") as session:
        with pytest.raises(EngineError, match="answers a text about audio"):
            await events_of(ask(session, spoken))
        await events_of(ask(session, prompt(user(silence(500), "What is it?"))))
    async with session_with(server) as session:
        await events_of(ask(session, spoken))
    assert len(server.requests) == 2
    engines = [DashScopeEngine(model, DashScopeSettings()) for model in ("qwen-audio-turbo", None)]
    assert ["voice_chat" in engine.info.modes for engine in engines] == [False, True]


@pytest.mark.parametrize(
    ("about", "complaint"),
    [
        (prompt(user(silence(30_001))), "at most 30 s"),
        (prompt(Message("", "assistant", (FunctionCall("a", "b", "{}"),))), "call no functions"),
    ],
)
async def test_what_is_not_sent(server: DashScopeServer, about: Prompt, complaint: str) -> None:
    async with session_with(server) as session:
        with pytest.raises(EngineError, match=complaint):
            await events_of(ask(session, about))
    assert server.requests == []


async def test_cancelling_aborts_the_request(server: DashScopeServer) -> None:
    server.will("One", " two", then="stalls")
    async with session_with(server) as session:
        reply = ask(session, speculative=True)
        async for event in reply:
            if event == Text(" two", ()):
                await reply.cancel()
        await server.was_left(1)
        assert await text_of(ask(session)) == "Hello."


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ({"then": "cuts"}, "The connection to .* failed"),
        ({"then": "closes"}, "broke the reply off"),
        ({"then": "stalls"}, r"sent no more of the reply for 0\.2 s"),
    ],
)
async def test_a_server_that_fails_in_the_middle_of_a_reply(
    server: DashScopeServer, how: dict[str, str], reason: str
) -> None:
    server.will("One", **how)
    async with session_with(server, token_timeout_s=0.2) as session:
        with pytest.raises(EngineError, match=reason):
            await events_of(ask(session))
        assert len(server.requests) == 1
        assert await text_of(ask(session)) == "Hello."


@pytest.mark.parametrize(
    "said", [{}, {"output": None}, {"output": {"choices": []}}, {"output": {"choices": ["Hi"]}}]
)
async def test_what_can_not_be_read(server: DashScopeServer, said: dict[str, Any]) -> None:
    server.will(said)
    async with session_with(server) as session:
        with pytest.raises(EngineError, match="sent what can't be read"):
            await events_of(ask(session))
        assert await text_of(ask(session)) == "Hello."


def refusal(code: str, message: str) -> dict[str, str]:
    return {"code": code, "message": message, "request_id": "request-2"}


OPENAI_SHAPE = {"error": {"message": "no such key", "type": "invalid", "code": "invalid_api_key"}}


@pytest.mark.parametrize(
    ("status", "error", "complaint"),
    [
        (
            400,
            refusal("Invalid", "no such thing"),
            "400, Invalid: no such thing (request request-2)",
        ),
        (401, OPENAI_SHAPE, "401, invalid_api_key: no such key"),
        (401, {**OPENAI_SHAPE, "request_id": "r"}, "401, invalid_api_key: no such key (request r)"),
        (403, {"error": {"message": "no", "type": "denied", "code": None}}, "403, denied: no"),
        (404, {"error": "no such model"}, "404: no such model"),
        (404, {"detail": "no"}, "404: it doesn't say why"),
        (422, ["all", "wrong"], "422: ['all', 'wrong']"),
    ],
)
async def test_a_refusal_is_told_in_whichever_shape_it_comes(
    server: DashScopeServer, status: int, error: Any, complaint: str
) -> None:
    server.will(status=status, error=error)
    async with session_with(server) as session:
        with pytest.raises(EngineError) as caught:
            await events_of(ask(session))
    assert str(caught.value) == f"{server.address} refuses with status {complaint}"
    assert len(server.requests) == 1


@pytest.mark.parametrize("nested", [False, True])
async def test_a_prompt_that_is_too_long(server: DashScopeServer, nested: bool) -> None:
    told = refusal("InvalidParameter", "Range of input length should be [1, 6144]")
    error = {"error": told} if nested else told
    server.will(status=400, error=error)
    async with session_with(server) as session:
        with pytest.raises(PromptTooLongError) as caught:
            await events_of(ask(session))
    assert caught.value.text_tokens == 6145


@pytest.mark.parametrize("status", [429, 500])
async def test_before_the_first_token_it_is_tried_again(
    server: DashScopeServer, status: int
) -> None:
    error = refusal("Throttling.RateQuota", "slow down")
    server.will(status=status, error=error)
    async with session_with(server) as session:
        assert await text_of(ask(session)) == "Hello."
        server.will(status=status, error=error)
        with pytest.raises(GaveWayError, match=r"Throttling\.RateQuota: slow down"):
            await events_of(ask(session, speculative=True))
    assert len(server.requests) == 3


async def test_without_a_key_it_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DASHSCOPE_API_KEY")
    with pytest.raises(EngineError, match="variable DASHSCOPE_API_KEY"):
        await DashScopeEngine(None, DashScopeSettings()).start()
