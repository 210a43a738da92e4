"""The examples of Qwen-Audio's API page, with no more than address and key changed.

Those for curl and for Python are run; those for Java, as the SDK for Java sends and reads them.
"""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from assistant.config import Config
from assistant.errors import EngineError
from assistant.prompt import AudioPart, Part, TextPart
from tests.answering_engine import AnsweringModel
from tests.file_server import Page, file_server
from tests.java_sdk import ApiException, MultiModalConversation
from tests.server import serving
from tests.speech import prompt, write_wav

KEY = "sk-0123456789"
QUESTION = "What is this audio about?"
ANSWER = "This audio says: 'Hello world'"
ASSISTANT = {"role": "system", "content": [{"text": "You are a helpful assistant."}]}
HEARD = AudioPart.of(prompt("hello-world"))
USAGE = {"input_tokens": 10, "audio_tokens": 25, "output_tokens": 2}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_wav(tmp_path / "welcome.wav", prompt("hello-world"))


@pytest.fixture
def url(file: Path) -> Iterator[str]:
    with file_server() as web:
        web.pages["/welcome.wav"] = Page(file.read_bytes())
        yield web.url("/welcome.wav")


@pytest.fixture
def data_url(file: Path) -> str:
    return f"data:;base64,{base64.b64encode(file.read_bytes()).decode()}"


@pytest.fixture
def engine() -> AnsweringModel:
    return AnsweringModel(["This audio says: ", "'Hello world'"], ["Yes", "."])


def user(*content: dict[str, str]) -> dict[str, Any]:
    return {"role": "user", "content": list(content)}


@asynccontextmanager
async def in_place_of_dashscope(engine: AnsweringModel) -> AsyncIterator[str]:
    """The address of a server."""
    config = Config.load(
        overrides={"server": {"api_key": KEY}, "files": {"private_addresses": True}}
    )
    async with serving(config, engine) as address:
        yield f"http://{address}/api/v1"


def asked(engine: AnsweringModel) -> tuple[Part, ...]:
    """What the model was told last."""
    return engine.replies[-1].prompt.messages[-1].parts


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is missing: apt-get install curl")
async def test_curl(engine: AnsweringModel, url: str, data_url: str) -> None:
    async with in_place_of_dashscope(engine) as address:

        async def run(body: str) -> Any:
            command = f"""
            curl -X POST {address}/services/aigc/multimodal-generation/generation \\
            -H "Authorization: Bearer $DASHSCOPE_API_KEY" \\
            -H 'Content-Type: application/json' \\
            -d '{body}'
            """
            curl = await asyncio.create_subprocess_shell(
                command, stdout=asyncio.subprocess.PIPE, env={"DASHSCOPE_API_KEY": KEY}
            )
            printed, _ = await curl.communicate()
            return json.loads(printed)

        async def ask(*messages: dict[str, Any]) -> Any:
            body = {"model": "qwen-audio-turbo", "input": {"messages": messages}}
            return await run(json.dumps(body, indent=2))

        answer = await ask(user({"audio": url}, {"text": QUESTION}))
        assert answer.pop("request_id")
        message = {"role": "assistant", "content": [{"text": ANSWER}]}
        assert answer == {
            "output": {"choices": [{"finish_reason": "stop", "message": message}]},
            "usage": USAGE,
        }
        assert asked(engine) == (HEARD, TextPart(QUESTION))
        await ask(ASSISTANT, user({"audio": url}))
        assert asked(engine) == (HEARD,)
        await ask(ASSISTANT, user({"audio": data_url}, {"text": QUESTION}))
        assert asked(engine) == (HEARD, TextPart(QUESTION))
        assert (await run("{"))["code"] == "InvalidParameter"


@pytest.mark.slow
@pytest.mark.skipif(
    find_spec("dashscope") is None, reason="needs the package: pip install dashscope"
)
async def test_python(
    engine: AnsweringModel,
    url: str,
    data_url: str,
    file: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import dashscope

    async with in_place_of_dashscope(engine) as address:
        monkeypatch.setattr(dashscope, "base_http_api_url", address)

        async def ask(*content: dict[str, str], key: str = KEY, **options: Any) -> Any:
            return await asyncio.to_thread(
                dashscope.MultiModalConversation.call,
                api_key=key,
                model="qwen-audio-turbo",
                messages=[ASSISTANT, user(*content)],
                **options,
            )

        for audio in (url, data_url, f"file://{file}"):
            response = await ask({"audio": audio}, {"text": QUESTION}, result_format="message")
            choice = response["output"]["choices"][0]
            assert choice["message"].content[0]["text"] == ANSWER
            assert asked(engine) == (HEARD, TextPart(QUESTION))
        await ask({"audio": url})
        assert asked(engine) == (HEARD,)
        refused = await ask({"audio": url}, key="sk-wrong")
        assert (refused.status_code, refused.code) == (401, "InvalidApiKey")
        assert "API key" in refused.message


async def test_java(engine: AnsweringModel, url: str, data_url: str, file: Path) -> None:
    async with in_place_of_dashscope(engine) as address:
        conversation = MultiModalConversation(address, KEY)
        for audio in (url, data_url, f"file://{file}"):
            message = user({"audio": audio}, {"text": QUESTION})
            result = await conversation.call("qwen-audio-turbo", [message])
            assert result["output"]["choices"][0]["message"]["content"][0]["text"] == ANSWER
            assert (result["usage"], result["code"], result["message"]) == (USAGE, "", "")
            assert result["requestId"]
            assert asked(engine) == (HEARD, TextPart(QUESTION))
        await conversation.call("qwen-audio-turbo", [user({"audio": url})])
        assert asked(engine) == (HEARD,)
        first, *_ = conversation.sent
        head, _, body = first.partition(b"\r\n\r\n")
        assert head.decode().split("\r\n") == [
            "POST /api/v1/services/aigc/multimodal-generation/generation HTTP/1.1",
            f"Authorization: Bearer {KEY}",
            "Accept: application/json; charset=utf-8",
            "user-agent: dashscope/2.22.29; java/17.0.15; platform/Linux; processor/amd64",
            "Content-Type: application/json; charset=utf-8",
            f"Content-Length: {len(body)}",
            f"Host: {address.split('/')[2]}",
            "Connection: Keep-Alive",
            "Accept-Encoding: gzip",
        ]
        assert body.decode() == (
            '{"model":"qwen-audio-turbo","input":{"messages":[{"role":"user","content":'
            f'[{{"audio":"{url}"}},{{"text":"{QUESTION}"}}]}}]}},'
            '"parameters":{"enable_search":false}}'
        )
        await conversation.close()


async def test_java_in_pieces(engine: AnsweringModel, file: Path) -> None:
    async with in_place_of_dashscope(engine) as address:
        conversation = MultiModalConversation(address, KEY)
        messages = [user({"audio": f"file://{file}"}, {"text": QUESTION})]
        for parameters, texts in (
            ({}, ["This audio says: ", ANSWER, ANSWER]),
            ({"incremental_output": True}, ["This audio says: ", "'Hello world'", ""]),
        ):
            results = [
                result
                async for result in conversation.stream_call(
                    "qwen-audio-turbo", messages, **parameters
                )
            ]
            contents = [result["output"]["choices"][0]["message"]["content"] for result in results]
            assert contents == [[{"text": text}] if text else [] for text in texts]
            assert results[-1]["output"]["choices"][0]["finish_reason"] == "stop"
            assert results[-1]["usage"] == USAGE
        await conversation.close()


async def test_what_java_throws(file: Path) -> None:
    engine = AnsweringModel([EngineError("out")], ["One", EngineError("out")])
    async with in_place_of_dashscope(engine) as address:
        one, another = user({"text": "Hi"}), {"role": "assistant", "content": [{"text": "Yes"}]}
        stranger = MultiModalConversation(address, "sk-wrong")
        for messages in ([one], [user({"audio": f"file://{file}"})]):
            with pytest.raises(ApiException, match=r"401.*InvalidApiKey.*API key"):
                await stranger.call("qwen-audio-turbo", messages)
        await stranger.close()
        conversation = MultiModalConversation(address, KEY)
        with pytest.raises(ApiException, match=r"400.*InvalidParameter.*no audio file"):
            await conversation.call("qwen-audio-turbo", [user({"audio": "data:;base64,AAAA"})])
        with pytest.raises(ApiException, match=r"500.*InternalError.*out"):
            await conversation.call("qwen-audio-turbo", [one])
        taken = []
        with pytest.raises(ApiException, match=r"400.*InternalError.*out"):
            async for result in conversation.stream_call("qwen-audio-turbo", [one, another, one]):
                taken.append(result)
        assert len(taken) == 1
        await conversation.close()
