"""Qwen2-Audio behind the server: the wire brings what the model card's own code answers."""

from __future__ import annotations

import os
import shutil
import signal
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from assistant.config import Config, TurnsConfig
from assistant.engines.transformers import TransformersEngine, TransformersSettings
from assistant.prompt import Message
from assistant.realtime.transcripts import INSTRUCTION, LEAST_TOKENS, TOKENS_PER_S
from audio_io.pcm import Int16Array
from audio_io.segmenter import SpeechSegmenter
from audio_io.silero import SileroVad
from audio_io.speech_events import SpeechStopped
from tests.dialogue import assistant, prompt, system, user
from tests.model_card import ModelCard
from tests.sdk_client import Conversation, connected, conversation
from tests.server import serving
from tests.speech import join, phrase, silence
from tests.speech import prompt as speech
from tests.tiny_models import answers_for_ever, with_context

pytestmark = pytest.mark.slow

AT_16_KHZ = {"type": "audio/pcm", "rate": 16_000}
REPLY_TOKENS = 24
TEXT_DONE = "response.output_text.done"


@pytest.fixture(scope="module")
def card(tiny_qwen2_audio: Path) -> ModelCard:
    return ModelCard(tiny_qwen2_audio)


def engine(folder: Path, **settings: object) -> TransformersEngine:
    settings = {"device": "cpu", "max_output_tokens": REPLY_TOKENS} | settings
    return TransformersEngine(str(folder), TransformersSettings.model_validate(settings))


def utterance(sound: Int16Array) -> Int16Array:
    """What turn detection makes of `sound`, in which there is one turn."""
    turns = TurnsConfig()
    events = SpeechSegmenter(SileroVad(), turns.detection()).feed(sound, 16_000)
    (stopped,) = [event for event in events if isinstance(event, SpeechStopped)]
    assert stopped.utterance is not None
    return stopped.utterance.samples


async def spoken_by_hand(client: Conversation, samples: Int16Array) -> None:
    await client.says(samples)
    await client.send(type="input_audio_buffer.commit")
    await client.send(type="response.create")


async def test_a_conversation_spoken_and_typed(tiny_qwen2_audio: Path, card: ModelCard) -> None:
    config = Config.load(overrides={"model": {"instructions": "Be brief."}})
    said: list[Message] = [system("Be brief.")]

    async def is_answered(turn: Message) -> None:
        """The wire's reply is the reference's, to the conversation up to here."""
        reply = await client.reply()
        said.append(turn)
        assert reply == card.reply(prompt(*said), REPLY_TOKENS)
        said.append(assistant(reply))

    async with conversation(config, engine(tiny_qwen2_audio)) as client:
        created = await client.sees("session.created")
        assert created["session"]["model"] == "tiny-qwen2-audio"

        # Speech alone, its turn cut by the server, the reply begun in the pause.
        await client.hears(format=AT_16_KHZ)
        sound = join(silence(500), speech("hello-world"), silence(1500))
        await client.says(sound)
        await is_answered(user(utterance(sound)))

        await client.types("What did I say?")
        await is_answered(user("What did I say?"))

        # Speech alone again, and text about it, the client's turns.
        await client.hears(turn_detection=None)
        await client.send(type="input_audio_buffer.clear")
        await spoken_by_hand(client, phrase("Front_Left"))
        await is_answered(user(phrase("Front_Left")))

        await client.types("Which side?", about=phrase("Side_Right"))
        await is_answered(user(phrase("Side_Right"), "Which side?"))

        usage = client.events[-1]["response"]["usage"]
        declared = card.prompt_ids(prompt(*said[:-1]))
        assert usage["input_tokens"] == len(declared)
        audio_token = card.processor.tokenizer.convert_tokens_to_ids("<|AUDIO|>")
        details = usage["input_token_details"]
        assert details["audio_tokens"] == declared.count(audio_token)


async def test_what_goes_on_beside_leaves_the_conversation_whole(
    tiny_qwen2_audio: Path, card: ModelCard
) -> None:
    front = phrase("Front_Left")
    async with conversation(engine=engine(tiny_qwen2_audio, worker="thread")) as client:
        # The turn is written down by the same model, while it is answered.
        await client.hears(format=AT_16_KHZ, turn_detection=None, transcription={})
        await spoken_by_hand(client, front)
        reply = await client.reply()
        assert reply == card.reply(prompt(user(front)), REPLY_TOKENS)
        completed = "conversation.item.input_audio_transcription.completed"
        if completed not in [event["type"] for event in client.events]:
            await client.sees(completed)
        (transcript,) = [event for event in client.events if event["type"] == completed]
        seconds = len(front) / 16_000
        most = LEAST_TOKENS + round(seconds * TOKENS_PER_S)
        assert transcript["transcript"] == card.reply(prompt(user(front, INSTRUCTION)), most)

        # Something else is asked about it, and leaves no trace.
        heard_id = transcript["item_id"]
        question = {
            "type": "message",
            "role": "user",
            "content": [{"type": "input_text", "text": "Which side?"}],
        }
        beside = {
            "conversation": "none",
            "input": [{"type": "item_reference", "id": heard_id}, question],
        }
        await client.send(type="response.create", response=beside)
        asked = prompt(user(front), user("Which side?"))
        assert await client.reply() == card.reply(asked, REPLY_TOKENS)

        # The reply is cut to what was heard of it, and the conversation goes on from there.
        cut = reply[:10]
        id = next(event["item_id"] for event in client.events if event["type"] == TEXT_DONE)
        await client.send(type="conversation.item.delete", item_id=id)
        content = [{"type": "output_text", "text": cut}]
        item = {"type": "message", "id": id, "role": "assistant", "content": content}
        await client.send(type="conversation.item.create", item=item)
        await client.types("Go on.")
        cut_short = prompt(user(front), assistant(cut), user("Go on."))
        assert await client.reply() == card.reply(cut_short, REPLY_TOKENS)
        cached = client.events[-1]["response"]["usage"]["input_token_details"]["cached_tokens"]
        before = card.prompt_ids(prompt(user(front)))
        assert cached == len(before) + len(cut)


async def test_a_conversation_goes_on_beyond_the_model_s_context(
    tiny_qwen2_audio: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(tiny_qwen2_audio, tmp_path / "short")
    model = engine(with_context(folder, 1000), worker="thread")
    async with conversation(engine=model) as client:
        await client.hears(format=AT_16_KHZ, turn_detection=None)
        used = []
        for number in range(20):
            await spoken_by_hand(client, speech("demo-congrats")[number * 8000 :][:32_000])
            done = await client.sees("response.done")
            assert done["response"]["status"] != "failed"
            used.append(done["response"]["usage"])
    totals = [usage["input_tokens"] for usage in used]
    assert max(totals) <= 1000 < sum(usage["output_tokens"] for usage in used) + 20 * 50
    # What was left when turns were dropped had been computed again before the next one came, but
    # where that came at once.
    drops = [i for i in range(1, 20) if totals[i] < totals[i - 1]]
    assert any(used[i]["input_token_details"]["cached_tokens"] > totals[i] - 100 for i in drops)


async def test_after_what_is_too_long_the_conversation_goes_on(
    tiny_qwen2_audio: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(tiny_qwen2_audio, tmp_path / "short")
    model = engine(with_context(folder, 600), worker="thread")
    async with conversation(engine=model) as client:

        async def answer(text: str) -> dict[str, Any]:
            await client.types(text)
            return (await client.sees("response.done"))["response"]

        # What alone is too long fails; what is only because of what was before, doesn't.
        for text, failed in (
            ("a" * 400, False),
            ("b" * 400, False),
            ("c" * 700, True),
            ("d", False),
        ):
            response = await answer(text)
            assert (response["status"] == "failed") is failed
            if failed:
                reason = response["status_details"]["error"]["message"]
                assert "and the model's context holds 600. Start a new one." in reason


async def test_more_conversations_than_the_memory_keeps(
    tiny_qwen2_audio: Path, card: ModelCard
) -> None:
    one_slot = 8192 * 512 / 1e9
    model = engine(
        tiny_qwen2_audio, worker="thread", cache_gb=one_slot * 1.5, decode_ahead_tokens=2
    )
    config = Config.load(overrides={"turns": {"silence_duration_ms": 9000}})
    hello = "Hello, {}."
    async with serving(config, model) as address, AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(connected(address)) for _ in range(4)]
        # One begins ahead in a pause, and would keep the only place until its turn is over.
        await clients[0].hears(format=AT_16_KHZ)
        await clients[0].sees("session.updated")
        await clients[0].says(join(silence(500), speech("hello-world"), silence(1000)))
        await clients[0].sees("input_audio_buffer.speech_started")
        for number, client in enumerate(clients[1:]):
            await client.types(hello.format(number))
        for number, client in enumerate(clients[1:]):
            expected = card.reply(prompt(user(hello.format(number))), REPLY_TOKENS)
            assert await client.reply() == expected
        await clients[0].hears(format=AT_16_KHZ)
        await clients[0].sees("session.updated")
        assert "input_audio_buffer.speech_stopped" not in {e["type"] for e in clients[0].events}
        await clients[0].says(silence(9000))
        assert await clients[0].reply()


async def test_a_worker_that_dies_fails_the_reply_and_the_conversation_goes_on(
    tiny_qwen2_audio: Path, tmp_path: Path, card: ModelCard
) -> None:
    folder = answers_for_ever(shutil.copytree(tiny_qwen2_audio, tmp_path / "endless"))
    model = engine(folder, worker="process", max_output_tokens=8000)
    async with conversation(engine=model) as client:
        await client.types("Go on.")
        await client.sees("response.output_text.delta")
        assert model.worker_pid is not None
        os.kill(model.worker_pid, signal.SIGKILL)
        failed = (await client.sees("response.done"))["response"]
        assert failed["status"] == "failed"
        error = failed["status_details"]["error"]
        assert error["message"] == "The model's worker was ended by SIGKILL."

        await client.types("Are you there?", max_output_tokens=REPLY_TOKENS)
        done = (await client.sees("response.done"))["response"]
        assert done["status"] == "incomplete"
        assert len(done["output"][0]["content"][0]["text"]) == REPLY_TOKENS
