"""Chat completions over any engine, asked for by the `openai` package."""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI

from assistant.config import Config
from assistant.engines.embedded import EmbeddedEngine, EmbeddedSettings
from assistant.engines.engine import Engine, EngineInfo, ToolCall
from assistant.engines.openai_compatible.engine import OpenAICompatibleEngine
from assistant.engines.openai_compatible.settings import OpenAICompatibleSettings
from assistant.engines.transformers import TransformersEngine, TransformersSettings
from assistant.errors import EngineError, PromptTooLongError
from assistant.prompt import AudioPart, FunctionCall, FunctionOutput, TextPart, Tool
from audio_io.pcm import Int16Array
from tests.answering_engine import AnsweringModel
from tests.chat_server import chat_server
from tests.file_server import Page, file_server
from tests.server import serving
from tests.speech import join, prompt, silence, write_wav

pytestmark = pytest.mark.slow

Message = dict[str, Any]


@asynccontextmanager
async def client_of(engine: Engine, **sections: Any) -> AsyncIterator[AsyncOpenAI]:
    config = Config.load(overrides=sections)
    async with (
        serving(config, engine) as address,
        AsyncOpenAI(api_key="none", base_url=f"http://{address}/v1", max_retries=0) as client,
    ):
        yield client


def describing() -> EmbeddedEngine:
    """Describes what it hears, at once, and keeps what it has heard."""
    return EmbeddedEngine(EmbeddedSettings(words=False, tokens_per_s=10_000))


def user(*parts: str | Message) -> Message:
    content = [{"type": "text", "text": part} if isinstance(part, str) else part for part in parts]
    return {"role": "user", "content": content}


def assistant(text: str | None) -> Message:
    return {"role": "assistant", "content": text}


@pytest.fixture
def sound(tmp_path: Path) -> Any:
    def part(samples: Int16Array) -> Message:
        data = write_wav(tmp_path / "sound.wav", samples).read_bytes()
        audio = {"data": base64.b64encode(data).decode(), "format": "wav"}
        return {"type": "input_audio", "input_audio": audio}

    return part


async def ask(client: AsyncOpenAI, *messages: Message, **options: Any) -> Any:
    return await client.chat.completions.create(model="any", messages=messages, **options)  # type: ignore[call-overload]


async def test_a_reply_at_once(sound: Any) -> None:
    engine = AnsweringModel(["A ", "greeting."])
    async with client_of(engine) as client:
        said = user(sound(prompt("hello-world")), "What is it?")
        reply = await ask(client, {"role": "system", "content": "Be brief."}, said, max_tokens=9)
    (choice,) = reply.choices
    assert (choice.message.content, choice.finish_reason) == ("A greeting.", "stop")
    assert (reply.model, reply.object) == ("scripted", "chat.completion")
    assert reply.usage.model_dump(exclude_none=True) == {
        "prompt_tokens": 35,
        "completion_tokens": 2,
        "total_tokens": 37,
        "prompt_tokens_details": {"audio_tokens": 25, "cached_tokens": 0},
    }
    (asked,) = engine.replies
    assert asked.options.max_output_tokens == 9 and not asked.options.speculative
    assert [(message.role, message.parts) for message in asked.prompt.messages] == [
        ("system", (TextPart("Be brief."),)),
        ("user", (AudioPart.of(prompt("hello-world")), TextPart("What is it?"))),
    ]


async def test_a_reply_in_pieces() -> None:
    engine = AnsweringModel(["A ", "greeting."])
    async with client_of(engine) as client:
        stream = await ask(client, user("Hi"), stream=True, stream_options={"include_usage": True})
        chunks = [chunk async for chunk in stream]
    assert [chunk.choices[0].delta.content for chunk in chunks[:-1]] == [
        "",
        "A ",
        "greeting.",
        None,
    ]
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]] == [None, None, None, "stop"]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert (chunks[-1].choices, chunks[-1].usage.total_tokens) == ([], 37)
    assert len({chunk.id for chunk in chunks}) == 1


async def test_the_models() -> None:
    async with client_of(AnsweringModel()) as client:
        (model,) = [model async for model in client.models.list()]
    assert (model.id, model.model_extra) == ("scripted", {"max_model_len": 8192, "tools": False})


async def test_a_conversation_sent_again_is_known_by_its_content(sound: Any) -> None:
    async with client_of(describing()) as client:
        said: list[Message] = [{"role": "system", "content": "Be brief."}]
        known = 0
        for length_ms in (1000, 2000, 1500):
            said.append(user(sound(join(prompt("hello-world"), silence(length_ms)))))
            reply = await ask(client, *said)
            assert reply.usage.prompt_tokens_details.cached_tokens == known
            said.append(assistant(reply.choices[0].message.content))
            known = reply.usage.total_tokens + 1
        # What was said last is said otherwise: all before it is still known.
        before = await ask(client, *said[:-2], user("Never mind."))
        assert 0 < before.usage.prompt_tokens_details.cached_tokens < known


async def test_a_model_knows_all_of_a_conversation_but_its_last_turn(
    tiny_qwen2_audio: Path, sound: Any
) -> None:
    from tests.dialogue import assistant as answered
    from tests.dialogue import prompt as conversation
    from tests.dialogue import user as asked
    from tests.model_card import ModelCard

    card = ModelCard(tiny_qwen2_audio)
    engine = TransformersEngine(str(tiny_qwen2_audio), TransformersSettings(device="cpu"))
    sent: list[Message] = []
    said = []
    known = 0
    async with client_of(engine) as client:
        for speech in (prompt("hello-world"), prompt("digits/7"), prompt("hello-world")):
            sent.append(user(sound(speech), "What is it?"))
            said.append(asked(speech, "What is it?"))
            reply = await ask(client, *sent, max_tokens=24)
            text = reply.choices[0].message.content
            assert text == card.reply(conversation(*said), 24)
            # Of what came before, all but the last token is held.
            assert reply.usage.prompt_tokens_details.cached_tokens >= known
            known = reply.usage.total_tokens - 1
            sent.append(assistant(text))
            said.append(answered(text))


async def test_each_reply_has_its_own_temperature(tiny_qwen2_audio: Path) -> None:
    from tests.dialogue import prompt as conversation
    from tests.dialogue import user as asked
    from tests.model_card import ModelCard

    likeliest = ModelCard(tiny_qwen2_audio).reply(conversation(asked("Hello.")), 24)
    hot = TransformersSettings(device="cpu", temperature=2, top_k=0, seed=1)
    async with client_of(TransformersEngine(str(tiny_qwen2_audio), hot)) as client:

        async def reply(**options: Any) -> str:
            answer = await ask(client, user("Hello."), max_tokens=24, **options)
            text = answer.choices[0].message.content
            assert isinstance(text, str)
            return text

        async def generation(**parameters: Any) -> str:
            response = await client.with_options(
                base_url=str(client.base_url).replace("/v1", "/api/v1")
            ).post(
                "/services/aigc/multimodal-generation/generation",
                cast_to=object,
                body={
                    "input": {"messages": [{"role": "user", "content": "Hello."}]},
                    "parameters": {"max_tokens": 24, **parameters},
                },
            )
            (choice,) = response["output"]["choices"]  # type: ignore[index]
            return "".join(part["text"] for part in choice["message"]["content"])

        for say in (reply, generation):
            assert await say(temperature=0) == await say(temperature=1e-9) == likeliest
            assert await say() == await say(temperature=None) != likeliest
            assert await say(temperature=0.5) not in (likeliest, await say())
    with pytest.raises(openai.BadRequestError) as refused:
        async with client_of(AnsweringModel(["Hi."])) as client:
            await ask(client, user("Hello."), temperature=2.5)
    assert (refused.value.code, refused.value.param) == ("decimal_above_max_value", "temperature")


async def test_a_server_is_told_the_temperature() -> None:
    async with chat_server() as server:
        settings = OpenAICompatibleSettings(base_urls=(server.base_url,))
        async with client_of(OpenAICompatibleEngine("parrot", settings)) as client:
            await ask(client, user("Hello."), temperature=0.3)
            await ask(client, user("Hello."))
    assert [request.get("temperature") for request in server.requests] == [0.3, None]


async def test_transformers_chat() -> None:
    command = Path(sys.executable).with_name("transformers")
    async with serving(engine=describing()) as address:
        chat = await asyncio.create_subprocess_exec(
            *(command, "chat", "embedded", f"http://{address}/v1"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        output, _ = await chat.communicate(b"hello\nwhat is two plus three\n!exit\n")
    assert chat.returncode == 0
    assert b"What can I do for you?" in output
    assert b"2 plus 3 is 5." in output


async def test_conversations_are_told_apart(sound: Any) -> None:
    instructions = {"role": "system", "content": "Be brief."}
    first = [instructions, user("One"), assistant("1"), user("Two")]
    other = [instructions, user("Uno"), assistant("1"), user("Due")]
    async with client_of(describing()) as client:

        async def cached(*messages: Message) -> int:
            usage = (await ask(client, *messages)).usage
            return usage.prompt_tokens_details.cached_tokens

        assert await cached(*first) == 0
        # That they begin alike makes them no conversation in common.
        assert await cached(*other) == 0
        assert await cached(*first, assistant("2"), user("Three")) > 0
        assert await cached(*other, assistant("2"), user("Tre")) > 0


async def test_of_more_conversations_than_are_kept_the_oldest_go() -> None:
    async with client_of(describing(), chat={"max_conversations": 2}) as client:

        async def cached(*texts: str) -> int:
            messages = [user(text) for text in texts]
            usage = (await ask(client, *messages)).usage
            return usage.prompt_tokens_details.cached_tokens

        for text in ("One", "Two", "Three"):
            assert await cached(text) == 0
        assert await cached("Three", "?") > 0
        assert await cached("Two", "?") > 0
        assert await cached("One", "?") == 0


async def test_more_replies_at_once_than_are_made() -> None:
    engine = AnsweringModel(["One", ...])
    async with client_of(engine, chat={"max_conversations": 1}) as client:
        stream = await ask(client, user("Hi"), stream=True)
        with pytest.raises(openai.InternalServerError, match="as many as can be at once") as caught:
            await ask(client, user("Hi"))
        assert caught.value.status_code == 503
        await stream.close()
        await engine.replies[0].cancelled.wait()


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_client_that_leaves_ends_the_reply(streamed: bool) -> None:
    engine = AnsweringModel(["One", ...], ["Two"])
    async with client_of(engine) as client:
        if streamed:
            stream = await ask(client, user("Hi"), stream=True)
            async for chunk in stream:
                if chunk.choices[0].delta.content == "One":
                    break
            await stream.close()
        else:
            with pytest.raises(openai.APITimeoutError):
                await ask(client.with_options(timeout=0.2), user("Hi"))
        await engine.replies[0].cancelled.wait()
        reply = await ask(client, user("Hi"), assistant("One"), user("And?"))
        assert reply.choices[0].message.content == "Two"


async def test_functions() -> None:
    class Calling(AnsweringModel):
        info = EngineInfo("scripted", 8192, tools=True)

    call = ToolCall("call_1", "weather", '{"at": "home"}', (7,))
    engine = Calling(["Let me see.", call], ["Rain."])
    tools = [{"type": "function", "function": {"name": "weather", "description": "Tells it."}}]
    async with client_of(engine) as client:
        reply = await ask(client, user("Weather?"), tools=tools, tool_choice="required")
        (choice,) = reply.choices
        assert (choice.message.content, choice.finish_reason) == ("Let me see.", "tool_calls")
        assert choice.message.tool_calls[0].function.name == "weather"
        output = {"role": "tool", "tool_call_id": "call_1", "content": "rain"}
        stream = await ask(
            client,
            user("Weather?"),
            choice.message.model_dump(exclude_none=True),
            output,
            user("So?"),
            tools=tools,
            stream=True,
        )
        assert [chunk async for chunk in stream][-1].choices[0].finish_reason == "stop"
    first, second = (reply.prompt for reply in engine.replies)
    assert (first.tools, first.tool_choice) == ((Tool("weather", "Tells it.", {}),), "required")
    # As the model made them, with their tokens.
    assert [message.parts for message in second.messages[1:4]] == [
        (TextPart("Let me see.", (0,)),),
        (FunctionCall("call_1", "weather", '{"at": "home"}', (7,)),),
        (FunctionOutput("call_1", "rain"),),
    ]


async def test_a_call_is_streamed() -> None:
    class Calling(AnsweringModel):
        info = EngineInfo("scripted", 8192, tools=True)

    engine = Calling([ToolCall("call_1", "weather", "{}", ())])
    tools = [{"type": "function", "function": {"name": "weather"}}]
    async with client_of(engine) as client:
        stream = await ask(client, user("Weather?"), tools=tools, stream=True)
        chunks = [chunk async for chunk in stream]
    (call,) = chunks[1].choices[0].delta.tool_calls
    assert (call.index, call.id, call.function.name) == (0, "call_1", "weather")
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


async def test_long_sound_comes_to_the_model_in_parts(sound: Any) -> None:
    engine = AnsweringModel(["Noise."])
    async with client_of(engine) as client:
        await ask(client, user(sound(silence(61_000))))
    parts = engine.replies[0].prompt.messages[0].parts
    lengths = [len(part.samples) / 16_000 for part in parts if isinstance(part, AudioPart)]
    assert len(lengths) == 3 and max(lengths) <= 30 and sum(lengths) == 61


async def test_a_conversation_holds_so_much_sound_and_no_more(sound: Any) -> None:
    engine = AnsweringModel(["One"], ["Two"], ["Three"])
    async with client_of(engine, files={"max_s": 5}) as client:
        said = [user(sound(silence(3000)))]
        said.append(assistant((await ask(client, *said)).choices[0].message.content))
        with pytest.raises(openai.BadRequestError, match="holds more than 2 s"):
            await ask(client, *said, user(sound(silence(2500))))
        reply = await ask(client, *said, user(sound(silence(1900))))
        assert reply.choices[0].message.content == "Two"


async def test_sound_at_an_address(tmp_path: Path) -> None:
    data = write_wav(tmp_path / "a.wav", prompt("hello-world")).read_bytes()
    engine = AnsweringModel(["Hello."])
    with file_server() as web:
        web.pages["/a.wav"] = Page(data)
        said = user({"type": "audio_url", "audio_url": {"url": web.url("/a.wav")}})
        async with client_of(engine) as client:
            with pytest.raises(openai.BadRequestError, match="not on the public internet"):
                await ask(client, said)
        assert web.asked == []
        async with client_of(engine, files={"private_addresses": True}) as client:
            await ask(client, said)
    assert engine.replies[0].prompt.messages[0].parts == (AudioPart.of(prompt("hello-world")),)


@pytest.mark.parametrize(
    ("failure", "status", "code"),
    [
        (EngineError("out of memory"), 500, "model_error"),
        (
            PromptTooLongError("too long", text_tokens=9, audio_tokens=9),
            400,
            "context_length_exceeded",
        ),
        (RuntimeError("a bug"), 500, "server_error"),
    ],
)
@pytest.mark.parametrize("streamed", [True, False])
async def test_a_model_that_fails(
    failure: Exception, status: int, code: str, streamed: bool
) -> None:
    engine = AnsweringModel([failure], ["Well", failure], ["Hello."])
    # One conversation, so that its next question is the next script.
    said = [user("Hi")]
    async with client_of(engine) as client:
        for begun in ("", "Well"):
            seen = ""
            with pytest.raises(openai.APIError) as caught:
                reply = await ask(client, *said, stream=streamed)
                if streamed:
                    async for chunk in reply:
                        seen += chunk.choices[0].delta.content or ""
            assert caught.value.code == code
            if isinstance(caught.value, openai.APIStatusError):
                assert caught.value.status_code == status
            assert seen == (begun if streamed else "")
            said.append(user("Hi?"))
        assert (await ask(client, *said)).choices[0].message.content == "Hello."


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b"{", "is not JSON"),
        (b"[]", "Invalid type"),
        (b"[" * 101 + b"]" * 101, "nested more than 100 levels"),
        (b'{"messages": []}', "messages"),
        (
            b'{"messages": [{"role": "user", "content": "' + b"a" * 2000 + b'"}]}',
            "at most|more than",
        ),
        (
            json.dumps({"messages": [{"role": "user", "content": "Hi"}] * 3}).encode(),
            "At most 2 messages",
        ),
        (
            json.dumps(
                {"messages": [user({"type": "input_audio", "input_audio": {"data": "AAAA"}})]}
            ).encode(),
            "is no audio file",
        ),
        (
            json.dumps(
                {
                    "messages": [user("Hi")],
                    "tools": [{"type": "function", "function": {"name": "x"}}],
                }
            ).encode(),
            "calls no functions",
        ),
    ],
)
async def test_requests_that_are_refused(body: bytes, complaint: str) -> None:
    config = Config.load(
        overrides={"chat": {"max_request_bytes": 1024}, "limits": {"max_messages": 2}}
    )
    async with serving(config, AnsweringModel()) as address, httpx.AsyncClient() as client:
        response = await client.post(f"http://{address}/v1/chat/completions", content=body)
    assert 400 <= response.status_code < 500
    error = response.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert any(part in error["message"] for part in complaint.split("|"))


LONG = "x" * 600
CALL = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": LONG}}


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        pytest.param({"messages": [user(LONG), user(LONG)]}, "At most 1000", id="messages"),
        pytest.param(
            {
                "messages": [
                    user("Look!"),
                    {"role": "assistant", "tool_calls": [CALL]},
                    {"role": "tool", "tool_call_id": "call_1", "content": LONG},
                ]
            },
            "At most 1000",
            id="a call and what came of it",
        ),
        pytest.param(
            {
                "messages": [user("Look!")],
                "tools": [{"type": "function", "function": {"name": "look", "description": LONG}}]
                * 2,
            },
            "Invalid 'tools': too much text",
            id="functions",
        ),
        pytest.param(
            {"messages": [user("Look!")], "unknown": [[]] * 50_000},
            "more than 32384 fields and elements",
            id="fields",
        ),
    ],
)
async def test_what_is_too_much_never_reaches_the_model(body: Message, complaint: str) -> None:
    class Calling(AnsweringModel):
        info = EngineInfo("scripted", 8192, tools=True)

    config = Config.load(overrides={"limits": {"max_text_chars": 1000}})
    engine = Calling(["Yes."])
    async with serving(config, engine) as address, httpx.AsyncClient() as client:
        response = await client.post(f"http://{address}/v1/chat/completions", json=body)
    assert response.status_code == 400
    assert complaint in response.json()["error"]["message"]
    assert engine.replies == []
