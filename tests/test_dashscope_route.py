"""DashScope's generation over any engine: its page's examples, with address and key changed."""

from __future__ import annotations

import asyncio
import base64
import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import pytest

from assistant.chat.dashscope import PATH, Generation
from assistant.chat.requests import ChatRequest, Said, Sound
from assistant.chat.uploads import Uploads
from assistant.config import Config
from assistant.errors import EngineError, ProtocolError
from assistant.prompt import AudioPart, TextPart
from tests.answering_engine import AnsweringModel
from tests.file_server import Page, file_server
from tests.server import serving
from tests.speech import prompt, write_wav

KEY = "sk-0123456789"
QUESTION = {"text": "What is this audio about?"}
USAGE = {"input_tokens": 10, "audio_tokens": 25, "output_tokens": 2}


def user(*content: dict[str, str]) -> dict[str, Any]:
    return {"role": "user", "content": list(content)}


@pytest.fixture
def wav(tmp_path: Path) -> bytes:
    return write_wav(tmp_path / "welcome.wav", prompt("hello-world")).read_bytes()


@pytest.fixture
def audio(wav: bytes) -> dict[str, str]:
    return {"audio": f"data:;base64,{base64.b64encode(wav).decode()}"}


def asked(*messages: Any, **parameters: Any) -> ChatRequest:
    body = {"model": "any", "input": {"messages": [*messages]}, "parameters": parameters}
    return Generation("id", streamed=False, file=Uploads(0).find).parse(body)


def test_requests() -> None:
    request = asked(
        {"role": "system", "content": [{"text": "You are a helpful assistant."}]},
        user({"audio": "https://example.org/a.mp3"}, QUESTION),
        {"role": "assistant", "content": "Rain."},
        user({"audio": "data:;base64,AAAA"}),
        max_tokens=5,
        temperature=0.5,
        result_format="message",
        top_p=0.5,
    )
    assert request == ChatRequest(
        (
            Said("system", ("You are a helpful assistant.",)),
            Said("user", (Sound.of("https://example.org/a.mp3", is_url=True), QUESTION["text"])),
            Said("assistant", ("Rain.",)),
            Said("user", (Sound.of("data:;base64,AAAA", is_url=True),)),
        ),
        tools=(),
        tool_choice="auto",
        max_output_tokens=5,
        temperature=0.5,
        streamed=False,
        usage_streamed=True,
    )


@pytest.mark.parametrize(
    ("messages", "parameters"),
    [
        ([], {}),
        ([{"role": "poet", "content": "Hi"}], {}),
        ([user({"image": "https://example.org/a.png"})], {}),
        ([user({"audio": "a", "text": "b"})], {}),
        ([user({"audio": "oss://folder/never-sent.wav"})], {}),
        ([{"role": "assistant", "content": [{"audio": "a"}]}], {}),
        ([user(QUESTION)], {"n": 2}),
        ([user(QUESTION)], {"tools": [{}]}),
        ([user(QUESTION)], {"temperature": 2}),
        ([user(QUESTION)], {"temperature": -0.1}),
    ],
)
def test_requests_that_are_refused(messages: list[Any], parameters: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError):
        asked(*messages, **parameters)


async def post(address: str, body: Any, **headers: str) -> httpx.Response:
    headers = {"Authorization": f"Bearer {KEY}", **headers}
    async with httpx.AsyncClient() as client:
        return await client.post(f"http://{address}{PATH}", json=body, headers=headers)


async def test_a_reply_at_once(wav: bytes) -> None:
    engine = AnsweringModel(["This audio says: ", "'Hello world'"])
    config = Config.load(
        overrides={"server": {"api_key": KEY}, "files": {"private_addresses": True}}
    )
    with file_server() as web:
        web.pages["/welcome.wav"] = Page(wav)
        said = user({"audio": web.url("/welcome.wav")}, QUESTION)
        body = {"model": "qwen-audio-turbo", "input": {"messages": [said]}}
        async with serving(config, engine) as address:
            response = await post(address, body)
            refused = await post(address, body, Authorization="Bearer no")
    message = {"role": "assistant", "content": [{"text": "This audio says: 'Hello world'"}]}
    answer = response.json()
    assert answer.pop("request_id")
    assert answer == {
        "output": {"choices": [{"finish_reason": "stop", "message": message}]},
        "usage": USAGE,
    }
    assert refused.status_code == 401
    parts = engine.replies[0].prompt.messages[0].parts
    assert parts == (AudioPart.of(prompt("hello-world")), TextPart(QUESTION["text"]))


@pytest.mark.parametrize(
    ("incremental", "texts"),
    [(True, ["One,", " two", None]), (False, ["One,", "One, two", "One, two"])],
)
async def test_a_reply_in_pieces(incremental: bool, texts: list[str | None]) -> None:
    body = {
        "input": {"messages": [user(QUESTION)]},
        "parameters": {"incremental_output": incremental},
    }
    async with serving(engine=AnsweringModel(["One,", " two"])) as address:
        response = await post(address, body, **{"X-DashScope-SSE": "enable"})
    assert response.headers["content-type"] == "text/event-stream"
    events = [event.split("\n") for event in response.text.split("\n\n")[:-1]]
    assert [event[:3] for event in events] == [
        [f"id:{number}", "event:result", ":HTTP_STATUS/200"] for number in (1, 2, 3)
    ]
    answers = [json.loads(event[3].removeprefix("data:")) for event in events]
    choices = [answer["output"]["choices"][0] for answer in answers]
    assert [choice["finish_reason"] for choice in choices] == ["null", "null", "stop"]
    contents = [choice["message"]["content"] for choice in choices]
    assert contents == [[{"text": text}] if text else [] for text in texts]
    assert answers[-1]["usage"] == USAGE


async def test_what_goes_wrong() -> None:
    body = {"input": {"messages": [user({"audio": "data:;base64,AAAA"})]}}
    async with serving(engine=AnsweringModel()) as address:
        response = await post(address, body)
    assert response.status_code == 400
    answer = response.json()
    assert answer.pop("request_id")
    complaint = answer.pop("message")
    assert "no audio file" in complaint and answer == {"code": "InvalidParameter"}


@pytest.mark.slow
@pytest.mark.skipif(
    find_spec("dashscope") is None, reason="needs the package: pip install dashscope"
)
async def test_the_dashscope_package(
    audio: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import dashscope

    engine = AnsweringModel(
        ["This audio says: ", "'Hello world'"], ["Yes", "."], [EngineError("out")]
    )
    said = [user(audio, QUESTION)]

    async with serving(Config.load(overrides={"server": {"api_key": KEY}}), engine) as address:
        monkeypatch.setattr(dashscope, "base_http_api_url", f"http://{address}/api/v1")

        async def call(**options: Any) -> Any:
            return await asyncio.to_thread(
                dashscope.MultiModalConversation.call,
                api_key=KEY,
                model="qwen-audio-turbo",
                messages=said,
                **options,
            )

        response = await call(result_format="message")
        (choice,) = response["output"]["choices"]
        assert choice["message"].content[0]["text"] == "This audio says: 'Hello world'"
        assert response.usage["audio_tokens"] == 25
        assert response.request_id
        said += [dict(choice.message), user({"text": "Sure?"})]

        stream = await call(stream=True, incremental_output=True)
        responses = await asyncio.to_thread(list, stream)
        pieces = [response.output.choices[0].message.content for response in responses]
        assert pieces == [[{"text": "Yes"}], [{"text": "."}], []]
        said += [{"role": "assistant", "content": [{"text": "Yes."}]}, user({"text": "Really?"})]

        failed = await call()
        assert (failed.status_code, failed.code) == (500, "InternalError")
        assert failed.message == "out"
    # The second was a conversation that goes on: what the model had said, with its tokens.
    assert engine.replies[1].prompt.messages[1].parts == (
        TextPart("This audio says: 'Hello world'", (0, 0)),
    )
