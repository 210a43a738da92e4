"""The session at work, in virtual time: delivery, interruption, failure, stalls and the end."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import numpy as np
import orjson
import pytest

from assistant.engines.engine import ReplyOptions
from assistant.errors import EngineError, GaveWayError, PromptTooLongError
from assistant.prompt import TextPart
from assistant.realtime.live import BURST_MESSAGES, LiveSession, live_session, now_ms
from assistant.realtime.session import RealtimeSession, SessionLimits
from assistant.realtime.settings import SessionSettings
from assistant.realtime.sink import EventSink, SlowClientError
from assistant.tasks import race
from assistant.turns import BARGE_IN_MIN_SPEECH_MS
from audio_io.endpointer import TurnDetection
from audio_io.pcm import SAMPLE_RATE_HZ, Int16Array
from audio_io.segmenter import SpeechSegmenter
from audio_io.silero import SileroVad
from audio_io.vad import VoiceActivityDetector
from tests.protocol import counted_ids
from tests.scripted_engine import ScriptedModel
from tests.speech import join, prompt, silence
from tests.virtual_time import run
from tests.watch import Watch


class LevelDetector:
    """A detector of real behaviour for test signals: loud is speech."""

    def probability(self, window: Int16Array) -> float:
        return 0.99 if np.abs(window).max() > 1000 else 0.01

    def reset(self) -> None: ...


def loud(ms: int) -> Int16Array:
    return np.full(SAMPLE_RATE_HZ * ms // 1000, 8000, np.int16)


def quiet(ms: int) -> Int16Array:
    return np.zeros(SAMPLE_RATE_HZ * ms // 1000, np.int16)


class Client:
    """A transport whose reading can be stopped."""

    def __init__(self, live: LiveSession, session: RealtimeSession) -> None:
        self.live = live
        self.session = session
        self.events: list[dict[str, Any]] = []
        self.reads = asyncio.Event()
        self.reads.set()
        self.sink = EventSink(self._take, max_events=50, timeout_s=10)
        self._news = asyncio.Condition()
        self._watch = Watch()

    async def _take(self, event: str) -> None:
        await self.reads.wait()
        self.events.append(orjson.loads(event))
        self._watch.sees(self.events[-1])
        async with self._news:
            self._news.notify_all()

    async def send(self, type_: str, **fields: Any) -> None:
        await self.live.receive(orjson.dumps({"type": type_, **fields}))

    async def says(self, samples: Int16Array) -> None:
        await self.live.hear(samples, SAMPLE_RATE_HZ)

    async def sees(self, type_: str, times: int = 1) -> dict[str, Any]:
        """Wait until `times` events of a type have come; returns the last of them."""
        async with self._news:
            await self._news.wait_for(lambda: self.types().count(type_) >= times)
        return [event for event in self.events if event["type"] == type_][times - 1]

    def types(self) -> list[str]:
        return [event["type"] for event in self.events]

    def text(self) -> str:
        deltas = (e for e in self.events if e["type"] == "response.output_text.delta")
        return "".join(event["delta"] for event in deltas)


@asynccontextmanager
async def connected(
    *,
    max_session_s: int = 3600,
    detector: VoiceActivityDetector | None = None,
    barge_in_min_speech_ms: int = BARGE_IN_MIN_SPEECH_MS,
) -> AsyncIterator[tuple[Client, ScriptedModel]]:
    model = ScriptedModel()
    session = RealtimeSession(
        context_tokens=8192,
        model="scripted",
        settings=SessionSettings(),
        limits=SessionLimits(100, 600, 10_000, max_session_s),
        detection=TurnDetection(confirm_ms=barge_in_min_speech_ms),
        now_ms=now_ms,
        new_id=counted_ids(),
    )
    segmenter = SpeechSegmenter(detector or LevelDetector(), session.hearing)
    async with live_session(session, model, segmenter, max_message_bytes=10**6) as live:
        client = Client(live, session)
        with live.attach(client.sink):
            sender = asyncio.create_task(client.sink.run())
            yield client, model
            sender.cancel()
    assert model.closed
    assert [t for t in asyncio.all_tasks() if t not in (asyncio.current_task(), sender)] == []


def test_a_turn_from_sound_to_text() -> None:
    async def main() -> None:
        async with connected() as (client, model):
            await client.says(np.concatenate([quiet(500), loud(600), quiet(300)]))
            (reply,) = model.replies
            reply.says("Hello", " there")
            await asyncio.sleep(1)
            assert client.types() == ["session.created", "input_audio_buffer.speech_started"]
            assert not reply.committed
            await client.says(quiet(600))
            assert reply.committed
            reply.says(".")
            reply.ends()
            done = await client.sees("response.done")
            assert done["response"]["output"][0]["content"][0]["text"] == "Hello there."
            assert client.text() == "Hello there."

    run(main())


def test_a_client_that_does_not_read_gets_no_text_ahead_of_it() -> None:
    async def main() -> None:
        async with connected() as (client, model):
            await client.says(np.concatenate([loud(600), quiet(1000)]))
            (reply,) = model.replies
            reply.says("one", " two")
            await client.sees("response.output_text.delta", 2)
            client.reads.clear()
            reply.says(" three", " four", " five")
            await asyncio.sleep(1)
            await client.says(loud(600))  # barge-in
            client.reads.set()
            done = await client.sees("response.done")
            await reply.cancelled.wait()
            # " three" was handed over before the client stopped; what came later never was.
            assert client.text() == "one two three"
            assert done["response"]["status"] == "cancelled"
            (said,) = client.session.messages[-1].parts
            assert isinstance(said, TextPart) and said.text == client.text()

    run(main())


def test_a_reply_goes_on_from_the_same_token_after_a_cough() -> None:
    async def main() -> None:
        async with connected() as (client, model):
            await client.says(np.concatenate([loud(600), quiet(1000)]))
            (reply,) = model.replies
            reply.says("one", " two")
            await client.sees("response.output_text.delta", 2)
            before = client.types()
            await client.says(np.concatenate([loud(300), quiet(100)]))
            reply.says(" three", " four")
            await asyncio.sleep(0.1)
            assert client.types() == before
            await client.says(quiet(900))
            reply.ends()
            done = await client.sees("response.done")
            assert done["response"]["status"] == "completed"
            assert client.text() == "one two three four"
            assert client.types().count("input_audio_buffer.speech_started") == 1
            assert len(client.session.messages) == 2 and not reply.cancelled.is_set()

    run(main())


@pytest.mark.parametrize(
    ("name", "interrupts"), [("vm-and", False), ("vm-goodbye", True), ("hello-world", True)]
)
def test_people_who_say_one_syllable_or_more_during_a_reply(name: str, interrupts: bool) -> None:
    async def main() -> None:
        async with connected(detector=SileroVad()) as (client, model):
            await client.says(join(silence(500), prompt("hello-world"), silence(1000)))
            reply, so_far = model.replies[-1], len(model.replies)
            reply.says("Well,")
            await client.sees("response.output_text.delta")
            await client.says(join(prompt(name), silence(1000)))
            reply.says(" as I said")
            reply.ends()
            done = await client.sees("response.done")
            assert done["response"]["status"] == ("cancelled" if interrupts else "completed")
            assert client.text() == ("Well," if interrupts else "Well, as I said")
            assert (len(model.replies) > so_far) == interrupts
            roles = [message.role for message in client.session.messages]
            assert roles == ["user", "assistant", "user"][: 2 + interrupts]

    run(main())


def test_any_sound_interrupts_where_that_is_configured() -> None:
    async def main() -> None:
        async with connected(barge_in_min_speech_ms=0) as (client, _):
            await client.says(np.concatenate([loud(600), quiet(1000)]))
            await client.says(loud(250))
            done = await client.sees("response.done")
            assert done["response"]["status_details"]["reason"] == "turn_detected"

    run(main())


def test_resumed_speech_cancels_the_guess_and_the_next_answers() -> None:
    async def main() -> None:
        async with connected() as (client, model):
            await client.says(np.concatenate([loud(600), quiet(300), loud(300), quiet(300)]))
            first, second = model.replies
            await first.cancelled.wait()
            assert first.prompt != second.prompt
            first.says("stale")
            second.says("fresh")
            second.ends()
            await client.says(quiet(600))
            await client.sees("response.done")
            assert client.text() == "fresh"

    run(main())


def test_a_failing_model_fails_the_reply_alone() -> None:
    async def main() -> None:
        async with connected() as (client, model):
            for number, error in enumerate([EngineError("out of memory"), ValueError("a bug")], 1):
                await client.says(np.concatenate([loud(600), quiet(1000)]))
                model.replies[-1].script.put_nowait(error)
                done = await client.sees("response.done", number)
                assert done["response"]["status"] == "failed"
            await client.says(np.concatenate([loud(600), quiet(1000)]))
            model.replies[-1].ends()
            done = await client.sees("response.done", 3)
            assert done["response"]["status"] == "completed"

    run(main())


def test_audio_that_stops_coming_ends_the_turn() -> None:
    async def main() -> None:
        async with connected() as (client, model):
            await client.says(loud(600))
            await client.sees("input_audio_buffer.committed")
            stopped = await client.sees("input_audio_buffer.speech_stopped")
            assert 600 <= stopped["audio_end_ms"] <= 900
            model.replies[-1].ends()
            await client.sees("response.done")
            # Nothing is fed while nobody speaks: an hour later the clock of the audio stands.
            await asyncio.sleep(1800)
            await client.says(loud(600))
            started = await client.sees("input_audio_buffer.speech_started", 2)
            assert started["audio_start_ms"] < 3000

    run(main())


def test_half_a_second_at_a_time_is_no_stall() -> None:
    async def main() -> None:
        async with connected() as (client, _):
            for _ in range(10):
                await client.says(loud(500))
                await asyncio.sleep(0.5)
            assert client.types() == ["session.created", "input_audio_buffer.speech_started"]

    run(main())


def test_a_manual_turn_waits_for_its_commit() -> None:
    async def main() -> None:
        async with connected() as (client, model):
            settings = {"audio": {"input": {"turn_detection": None}}}
            await client.send("session.update", session=settings)
            audio = base64.b64encode(np.repeat(loud(400), 2).tobytes()).decode()
            await client.send("input_audio_buffer.append", audio=audio)
            await asyncio.sleep(60)
            assert "input_audio_buffer.committed" not in client.types()
            await client.send("input_audio_buffer.commit")
            await client.sees("input_audio_buffer.committed")
            assert model.replies == []
            await client.send("response.create")
            assert len(model.replies) == 1

    run(main())


def test_the_session_ends_at_its_time() -> None:
    async def main() -> None:
        async with connected(max_session_s=60) as (client, _):
            await client.live.closed(client.sink)
            error = await client.sees("error")
            assert error["error"]["code"] == "session_expired"
            assert asyncio.get_running_loop().time() == 60

    run(main())


def test_nobody_speaks_after_a_reply() -> None:
    async def main() -> None:
        async with connected() as (client, model):
            vad = {"type": "server_vad", "idle_timeout_ms": 6000}
            await client.send(
                "session.update", session={"audio": {"input": {"turn_detection": vad}}}
            )
            await client.says(np.concatenate([loud(600), quiet(1000)]))
            await asyncio.sleep(2)
            model.replies[-1].ends()
            await client.sees("response.done")
            for _ in range(5):
                await asyncio.sleep(1)
                await client.says(quiet(1000))
            assert len(model.replies) == 1
            await model.asked(2)
            assert asyncio.get_running_loop().time() == 8
            triggered = await client.sees("input_audio_buffer.timeout_triggered")
            assert triggered["audio_end_ms"] == 6600
            assert model.replies[1].prompt.messages[-1].id == triggered["item_id"]
            model.replies[1].ends()
            # Without any sound, too, and as often as that takes.
            await client.sees("response.done", 2)
            await model.asked(3)
            assert asyncio.get_running_loop().time() == 14

    run(main())


def test_a_turn_that_nobody_asks_to_be_answered_is_transcribed_after_a_while() -> None:
    async def main() -> None:
        async with connected() as (client, model):
            input_ = {"turn_detection": None, "transcription": {"language": "en"}}
            await client.send("session.update", session={"audio": {"input": input_}})
            await client.says(loud(600))
            await client.send("input_audio_buffer.commit")
            await model.asked(1)
            assert asyncio.get_running_loop().time() == 0.5
            (side,) = model.replies
            assert side.side and side.prompt.task == "transcription"
            side.says("Hello.")
            side.ends()
            kind = "conversation.item.input_audio_transcription.completed"
            assert (await client.sees(kind))["transcript"] == "Hello."

    run(main())


def test_two_replies_at_a_time() -> None:
    async def main() -> None:
        async with connected() as (client, model):
            await client.says(np.concatenate([loud(600), quiet(1000)]))
            beside = {"conversation": "none", "instructions": "Sum up."}
            await client.send("response.create", response=beside)
            main, side = model.replies
            assert (main.side, side.side) == (False, True)
            side.says("A sum.")
            side.ends()
            await client.sees("response.done")
            main.says("Hello.")
            main.ends()
            done = await client.sees("response.done", 2)
            assert done["response"]["output"][0]["content"][0]["text"] == "Hello."

    run(main())


def test_leaving_in_the_middle_of_everything_frees_it() -> None:
    async def main() -> None:
        async with connected() as (client, model):
            await client.says(np.concatenate([loud(600), quiet(1000), loud(31_000)]))
            model.replies[-1].says("never ending")
        assert all(reply.cancelled.is_set() for reply in model.replies)

    run(main())


def test_leaving_while_a_part_is_taken_in_waits_for_nothing() -> None:
    async def main() -> None:
        async with connected() as (client, model):
            model.prefilling = asyncio.Event()
            await client.says(loud(31_000))
            await asyncio.sleep(0.1)
            assert len(model.prefilled) == 1
        assert asyncio.get_running_loop().time() == 0.1

    run(main())


@pytest.mark.parametrize("message", ["{", '{"type":"input_audio_buffer.clear"}'])
def test_a_burst_of_messages_lets_others_go_on_in_between(message: str) -> None:
    async def main() -> None:
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        async with connected() as (client, _):
            task = asyncio.create_task(other())
            seen = []
            for _ in range(5):
                for _ in range(BURST_MESSAGES):
                    await client.live.receive(message)
                seen.append(turns)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        assert seen == [1, 2, 3, 4, 5]

    run(main())


def test_who_takes_nothing_is_given_up() -> None:
    async def main() -> None:
        async def stuck(_: str) -> None:
            await asyncio.Event().wait()

        sink = EventSink(stuck, max_events=5, timeout_s=10)
        sink.put("event")
        try:
            await sink.run()
        except SlowClientError as error:
            assert str(error) == "took no event for 10 s"
        assert asyncio.get_running_loop().time() == 10

    run(main())


def test_who_lets_events_pile_up_is_given_up() -> None:
    async def main() -> None:
        async def slow(_: str) -> None:
            await asyncio.sleep(1)

        sink = EventSink(slow, max_events=5, timeout_s=10)
        for _ in range(6):
            sink.put("event")
        try:
            await sink.run()
        except SlowClientError as error:
            assert str(error) == "let too many events pile up"

    run(main())


def test_a_race_ends_with_its_first() -> None:
    async def main() -> None:
        ended: list[str] = []

        async def runner(name: str, seconds: float) -> None:
            try:
                await asyncio.sleep(seconds)
            finally:
                ended.append(name)

        await race(slow=runner("slow", 10), fast=runner("fast", 1))
        assert ended == ["fast", "slow"]
        assert asyncio.get_running_loop().time() == 1

    run(main())


GAVE_WAY = GaveWayError("It gave way.")


def test_a_reply_that_gave_way_just_when_its_turn_ended_is_asked_for_again() -> None:
    async def main() -> None:
        async with connected() as (client, model):
            await client.says(np.concatenate([loud(600), quiet(1000)]))
            model.replies[0].script.put_nowait(GAVE_WAY)
            await model.asked(2)
            first, second = model.replies
            assert (second.prompt, second.options) == (first.prompt, ReplyOptions())
            second.says("Hello.")
            second.ends()
            done = await client.sees("response.done")
            assert done["response"]["status"] == "completed" and client.text() == "Hello."

    run(main())


def test_one_whose_first_words_were_shown_fails_and_says_nothing_twice() -> None:
    async def main() -> None:
        async with connected() as (client, model):
            await client.says(np.concatenate([loud(600), quiet(1000)]))
            model.replies[0].says("Hello")
            model.replies[0].script.put_nowait(GAVE_WAY)
            done = await client.sees("response.done")
            assert done["response"]["status"] == "failed" and client.text() == "Hello"
            assert len(model.replies) == 1

    run(main())


def test_one_that_gave_way_in_the_pause_is_asked_for_when_the_turn_ends() -> None:
    async def main() -> None:
        async with connected() as (client, model):
            await client.says(np.concatenate([loud(600), quiet(300)]))
            model.replies[0].script.put_nowait(GAVE_WAY)
            await asyncio.sleep(0.1)
            assert client.types() == ["session.created", "input_audio_buffer.speech_started"]
            await client.says(quiet(700))
            model.replies[1].says("Hello.")
            model.replies[1].ends()
            assert (await client.sees("response.done"))["response"]["status"] == "completed"

    run(main())


def test_a_prompt_that_is_too_long_is_asked_again_without_the_oldest_turn() -> None:
    async def main() -> None:
        async with connected() as (client, model):
            for _ in range(2):
                await client.says(np.concatenate([loud(600), quiet(1000)]))
                model.replies[-1].says("Hello.")
                model.replies[-1].ends()
                await client.sees("response.done", len(model.replies))
            await client.says(np.concatenate([loud(600), quiet(1000)]))
            too_long = PromptTooLongError("too long", text_tokens=3000, audio_tokens=6000)
            model.replies[2].script.put_nowait(too_long)
            await model.asked(4)
            before, after = (reply.prompt.messages for reply in model.replies[2:])
            assert after == before[-len(after) :] and 0 < len(after) < len(before)
            # Until nothing can go any more.
            while len(model.replies[-1].prompt.messages) > 1:
                count = len(model.replies)
                model.replies[-1].script.put_nowait(too_long)
                await model.asked(count + 1)
            model.replies[-1].script.put_nowait(too_long)
            done = await client.sees("response.done", 3)
            assert done["response"]["status_details"]["error"]["message"] == "too long"

    run(main())
