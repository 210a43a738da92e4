"""The Realtime session as lists of effects; every server event passes the SDK's types."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import orjson
import pytest

from assistant.engines.engine import (
    Finished,
    PrefillReport,
    Started,
    Text,
    Timings,
    TokenCount,
    ToolCall,
    Usage,
)
from assistant.prompt import AudioPart, TextPart
from assistant.realtime.effects import (
    CancelReply,
    ClearHearing,
    Close,
    CommitReply,
    ConfigureHearing,
    Effect,
    Feed,
    FlushHearing,
    Prefill,
    StartReply,
)
from assistant.realtime.events import parse_client_event
from assistant.realtime.prompting import MOST_CHARS_PER_TOKEN
from assistant.realtime.session import RealtimeSession, SessionLimits
from assistant.realtime.settings import SessionSettings
from audio_io.speech_events import (
    AudioDropped,
    PartEnded,
    PauseBegan,
    SpeechConfirmed,
    SpeechResumed,
    SpeechStarted,
    SpeechStopped,
    Utterance,
)
from tests.protocol import counted_ids, sent, types, valid

CONTEXT_TOKENS = 1000
LIMITS = SessionLimits(max_messages=100, max_audio_s=600, max_text_chars=10_000, max_session_s=60)
REPORT = PrefillReport(TokenCount(12, 25), TokenCount(4, 0))
USAGE = Usage(REPORT.prompt, REPORT.reused, 2)
FINISHED = Finished("stop", USAGE, Timings(1.0, 2.0, 3.0))
REPLY = (Started(REPORT), Text("Good", (1,)), Text(" day", (2,)), FINISHED)

TURN_ANSWERED = [
    "response.created",
    "response.output_item.added",
    "conversation.item.added",
    "response.content_part.added",
    "response.output_text.delta",
    "response.output_text.delta",
    "response.output_text.done",
    "response.content_part.done",
    "response.output_item.done",
    "conversation.item.done",
    "response.done",
]
TURN_TAKEN = [
    "input_audio_buffer.speech_stopped",
    "input_audio_buffer.committed",
    "conversation.item.added",
    "conversation.item.done",
]


class Client:
    """A session, and everything that happens around it."""

    def __init__(
        self,
        *,
        model: str = "test",
        takes_tools: bool = False,
        limits: SessionLimits = LIMITS,
        **session: Any,
    ) -> None:
        self.now_ms = 0
        self.session = RealtimeSession(
            model=model,
            context_tokens=CONTEXT_TOKENS,
            takes_tools=takes_tools,
            settings=SessionSettings(),
            limits=limits,
            now_ms=lambda: self.now_ms,
            new_id=counted_ids(),
        )
        if session:
            self.send("session.update", session=session)

    def send(self, type_: str, **fields: Any) -> list[Effect]:
        message = orjson.dumps({"type": type_, "event_id": "mine", **fields})
        return self.session.receive(parse_client_event(message, max_bytes=10**6))

    def starts_to_speak(self, start: int = 1600) -> list[Effect]:
        self.said = utterance(start)
        return self.session.heard(SpeechStarted(start))

    def keeps_speaking(self) -> list[Effect]:
        return self.session.heard(SpeechConfirmed(self.said.start_sample + 16_000))

    def pauses(self) -> list[Effect]:
        return self.session.heard(PauseBegan(self.said, self.said.end_sample - 3200))

    def stops(self) -> list[Effect]:
        end = self.said.end_sample
        return self.session.heard(SpeechStopped(self.said, end - 3200, end + 8000))

    def speaks(self, start: int = 1600) -> list[Effect]:
        return [*self.starts_to_speak(start), *self.pauses(), *self.stops()]

    def model_says(self, *events: Any) -> list[Effect]:
        reply_id = self.session._dialogue._responder.id
        assert reply_id is not None
        return [effect for e in events for effect in self.session.generated(reply_id, e)]

    def said_by(self, role: str) -> list[str]:
        return [
            "".join(part.text if isinstance(part, TextPart) else "<audio>" for part in m.parts)
            for m in self.session.messages
            if m.role == role
        ]


def utterance(start: int = 1600, length: int = 16_000) -> Utterance:
    return Utterance(np.full(length, start % 1000, np.int16), start)


def pcm(ms: int = 200, rate: int = 24_000) -> str:
    return base64.b64encode(np.zeros(rate * ms // 1000, "<i2").tobytes()).decode()


def latency(effects: list[Effect]) -> dict[str, str]:
    """What `response.done` tells of it."""
    (event,) = [event for event in sent(effects) if event["type"] == "response.done"]
    metadata = event["response"]["metadata"]
    return {name.removeprefix("latency."): value for name, value in metadata.items()}


@pytest.mark.parametrize("ready", [True, False])
def test_it_tells_where_the_time_of_a_turn_went(ready: bool) -> None:
    client = Client()
    client.starts_to_speak()
    client.pauses()
    client.now_ms = 1000
    if ready:
        client.model_says(REPLY[0], Text("Good", (1,)))
    client.stops()
    client.now_ms = 1040
    if not ready:
        client.model_says(REPLY[0], Text("Good", (1,)))
    client.now_ms = 1500
    assert latency(client.model_says(Text(" day.", (2,)), FINISHED)) == {
        "speech_end_ms": "900",
        "turn_end_ms": "1600",
        "first_token_ms": "0" if ready else "40",
        "total_ms": "500",
        "speculation": "hit" if ready else "miss",
    }


def test_a_reply_ahead_that_was_for_something_else_is_a_miss() -> None:
    client = Client()
    client.starts_to_speak()
    client.pauses()
    client.model_says(*REPLY[:2])
    client.send("session.update", session={"type": "realtime", "instructions": "Be brief."})
    client.stops()
    assert latency(client.model_says(*REPLY))["speculation"] == "miss"


def test_a_typed_turn_and_one_without_a_word_tell_less() -> None:
    client = Client(instructions="Be brief.")
    client.send("response.create")
    client.now_ms = 30
    client.model_says(REPLY[0], Text("Good", (1,)))
    client.now_ms = 70
    assert latency(client.send("response.cancel")) == {
        "first_token_ms": "30",
        "total_ms": "70",
        "speculation": "none",
    }
    client.send("response.create")
    assert latency(client.send("response.cancel")) == {"total_ms": "0", "speculation": "none"}


def test_it_greets_with_the_session_as_it_is() -> None:
    session = valid(Client().session.greeting())["session"]
    assert session["output_modalities"] == ["text"]
    assert session["audio"]["input"]["format"] == {"type": "audio/pcm", "rate": 24_000}
    assert session["audio"]["input"]["turn_detection"]["type"] == "server_vad"


def test_a_spoken_turn_is_answered_by_what_was_thought_of_in_its_pause() -> None:
    client = Client()
    assert types(client.starts_to_speak()) == ["input_audio_buffer.speech_started"]
    (start,) = client.pauses()
    assert isinstance(start, StartReply) and start.options.speculative
    assert client.model_says(*REPLY[:2]) == []
    ended = client.stops()
    assert types(ended) == [*TURN_TAKEN, "CommitReply", *TURN_ANSWERED[:5]]
    assert CommitReply(start.reply_id) in ended
    assert types(client.model_says(*REPLY[2:])) == TURN_ANSWERED[5:]
    assert client.said_by("assistant") == ["Good day"]
    assert client.session.messages[-1].parts == (TextPart("Good day", (1, 2)),)


def test_the_whole_reply_may_be_there_before_the_turn_is_over() -> None:
    client = Client()
    client.starts_to_speak()
    client.pauses()
    assert client.model_says(*REPLY) == []
    effects = client.stops()
    # The texts in one piece: a client may have room for few events at once.
    in_one_piece = [name for i, name in enumerate(TURN_ANSWERED) if name != TURN_ANSWERED[i - 1]]
    assert types(effects) == [*TURN_TAKEN, "CommitReply", *in_one_piece]
    assert [e["delta"] for e in sent(effects) if "delta" in e] == ["Good day"]
    (created,) = [e for e in sent(effects) if e["type"] == "response.created"]
    assert created["response"]["output"] == []
    assert client.session.messages[-1].parts == (TextPart("Good day", (1, 2)),)
    assert types(client.speaks())[:2] == ["input_audio_buffer.speech_started", "StartReply"]


def test_speech_that_resumes_withdraws_the_guess_unseen() -> None:
    client = Client()
    client.starts_to_speak()
    (start,) = client.pauses()
    client.model_says(*REPLY[:2])
    assert client.session.heard(SpeechResumed(9000)) == [CancelReply(start.reply_id)]
    assert client.session.generated(start.reply_id, REPLY[2]) == []
    (again,) = client.pauses()
    assert again.prompt == start.prompt
    assert again.reply_id != start.reply_id


def test_the_fields_of_a_turn() -> None:
    client = Client()
    events = sent([*client.speaks(start=1600), *client.model_says(*REPLY)])
    by_type = {event["type"]: event for event in events}
    started = by_type["input_audio_buffer.speech_started"]
    assert (started["audio_start_ms"], started["item_id"]) == (100, "item_1")
    assert by_type["input_audio_buffer.speech_stopped"]["audio_end_ms"] == 1100
    assert by_type["input_audio_buffer.committed"]["item_id"] == "item_1"
    added = [event for event in events if event["type"] == "conversation.item.added"]
    assert [(e["item"]["id"], e["previous_item_id"]) for e in added] == [
        ("item_1", None),
        ("item_2", "item_1"),
    ]
    assert added[0]["item"]["content"] == [{"type": "input_audio", "transcript": None}]
    response = by_type["response.done"]["response"]
    assert response["status"] == "completed" and response["status_details"] is None
    assert response["output"][0]["content"] == [{"type": "output_text", "text": "Good day"}]
    assert response["usage"]["input_token_details"]["cached_tokens"] == 4
    assert response["usage"]["total_tokens"] == 39
    ids = [event["event_id"] for event in events]
    assert len(set(ids)) == len(ids)


def test_barge_in_keeps_what_was_delivered() -> None:
    client = Client()
    client.speaks()
    client.model_says(*REPLY[:2])
    assert client.starts_to_speak(40_000) == []
    effects = client.keeps_speaking()
    assert types(effects) == [
        "input_audio_buffer.speech_started",
        "CancelReply",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "conversation.item.done",
        "response.done",
    ]
    response = sent(effects)[-1]["response"]
    assert response["status"] == "cancelled"
    assert response["status_details"] == {"type": "cancelled", "reason": "turn_detected"}
    assert response["output"][0]["status"] == "incomplete"
    assert response["usage"]["output_tokens"] == 1
    assert client.said_by("assistant") == ["Good"]
    (start,) = client.pauses()
    assert [m.id for m in start.prompt.messages] == ["item_1", "item_2", "item_3"]


def test_a_reply_interrupted_before_its_first_word_leaves_no_item() -> None:
    client = Client()
    client.speaks()
    client.model_says(REPLY[0])
    client.starts_to_speak(40_000)
    effects = client.keeps_speaking()
    assert types(effects)[1:] == ["CancelReply", "response.done"]
    assert sent(effects)[-1]["response"]["output"] == []
    assert client.said_by("assistant") == []


def test_a_cough_during_a_reply_leaves_no_trace_on_the_wire() -> None:
    client = Client()
    client.speaks()
    client.model_says(*REPLY[:2])
    # What the model goes on to say is held while the sound lasts, and shown when it pauses.
    assert [*client.starts_to_speak(40_000), *client.model_says(REPLY[2])] == []
    (released,) = sent(client.pauses())
    assert released["delta"] == " day"
    assert client.stops() == []
    client.model_says(FINISHED)
    assert [message.id for message in client.session.messages] == ["item_1", "item_2"]
    # The next turn is told of as if there had been none in between, and doesn't hold the cough.
    events = sent(client.speaks(80_000))
    assert (events[0]["audio_start_ms"], events[0]["item_id"]) == (5000, "item_3")
    assert client.session.messages[-1].parts == (AudioPart.of(utterance(80_000).samples),)


def test_of_a_sound_that_was_no_turn_nothing_is_kept() -> None:
    client = Client()
    client.speaks()
    client.model_says(*REPLY[:2])
    client.starts_to_speak(40_000)
    client.session.heard(PartEnded(utterance(40_000, 400_000)))
    client.stops()
    client.model_says(FINISHED)
    client.speaks(500_000)
    assert client.session.messages[-1].parts == (AudioPart.of(utterance(500_000).samples),)


def test_a_cough_that_goes_over_into_speech_interrupts_from_its_beginning() -> None:
    client = Client()
    client.speaks()
    client.model_says(*REPLY[:2])
    client.starts_to_speak(40_000)
    assert client.pauses() == []
    assert types(client.model_says(REPLY[2])) == ["response.output_text.delta"]
    assert client.session.heard(SpeechResumed(50_000)) == []
    assert client.model_says(Text(" to you", (3,))) == []
    started, *_, done = sent(client.keeps_speaking())
    assert started["audio_start_ms"] == 2500
    assert done["response"]["status_details"]["reason"] == "turn_detected"
    assert client.said_by("assistant") == ["Good day"]
    assert types([*client.pauses(), *client.stops()]) == [
        "StartReply",
        *TURN_TAKEN,
        "CommitReply",
        "response.created",
    ]


def test_a_short_answer_while_nothing_is_replied_is_a_turn() -> None:
    client = Client()
    client.speaks()
    client.model_says(*REPLY)
    assert types(client.speaks(40_000))[-3:] == [
        "conversation.item.done",
        "CommitReply",
        "response.created",
    ]


def test_a_reply_that_fails_while_it_is_held() -> None:
    client = Client()
    client.speaks()
    client.model_says(*REPLY[:2])
    client.starts_to_speak(40_000)
    client.model_says(REPLY[2])
    reply_id = client.session._dialogue._responder.id
    assert reply_id is not None
    *_, done, started = sent(client.session.failed(reply_id, "out of memory"))
    assert done["response"]["status"] == "failed"
    assert client.said_by("assistant") == ["Good"]
    # There is nothing left that the sound could disturb.
    assert (started["type"], started["audio_start_ms"]) == (
        "input_audio_buffer.speech_started",
        2500,
    )
    assert types([*client.pauses(), *client.stops()]) == [
        "StartReply",
        *TURN_TAKEN,
        "CommitReply",
        "response.created",
    ]


def test_a_short_answer_just_before_a_reply_ends_is_not_lost() -> None:
    client = Client()
    client.speaks()
    client.model_says(*REPLY[:2])
    client.starts_to_speak(40_000)
    client.model_says(*REPLY[2:])
    # The pause lets the rest of the reply out, which is its end: so the sound is a turn.
    effects = client.pauses()
    assert types(effects) == [
        "response.output_text.delta",
        *TURN_ANSWERED[6:],
        "input_audio_buffer.speech_started",
        "StartReply",
    ]
    start = effects[-1]
    assert isinstance(start, StartReply) and start.options.speculative
    assert start.prompt.messages[-1].parts == (AudioPart.of(client.said.samples),)
    assert types(client.stops()) == [*TURN_TAKEN, "CommitReply", "response.created"]


def test_a_sound_in_whose_pause_the_reply_ends_is_answered_too() -> None:
    client = Client()
    client.speaks()
    client.model_says(*REPLY[:2])
    client.starts_to_speak(40_000)
    client.pauses()
    effects = client.model_says(*REPLY[2:])
    assert types(effects)[-2:] == ["input_audio_buffer.speech_started", "StartReply"]
    assert types(client.session.heard(SpeechResumed(50_000))) == ["CancelReply"]
    assert types([*client.pauses(), *client.stops()])[-1] == "response.created"


def test_a_held_reply_that_calls_a_function_ends_there() -> None:
    client = Client()
    client.speaks()
    client.starts_to_speak(40_000)
    client.model_says(REPLY[0], ToolCall("call_1", "get_weather", "{}", (3,)), FINISHED)
    released = client.pauses()
    assert types(released)[:2] == ["CancelReply", "response.done"]
    assert sent(released)[0]["response"]["status"] == "failed"


def test_what_is_committed_by_the_client_is_kept_however_short() -> None:
    client = Client()
    client.speaks()
    client.model_says(*REPLY[:2])
    client.starts_to_speak(40_000)
    client.model_says(REPLY[2])
    effects = client.session.flushed(client.said, None)
    assert types(effects) == ["response.output_text.delta", *TURN_TAKEN[1:]]
    assert types(client.model_says(REPLY[3]))[-1] == "response.done"


def test_a_reply_that_may_not_be_interrupted_is_not_held_either() -> None:
    vad = {"type": "server_vad", "interrupt_response": False}
    client = Client(type="realtime", audio={"input": {"turn_detection": vad}})
    client.speaks()
    client.model_says(*REPLY[:2])
    assert types(client.starts_to_speak(40_000)) == ["input_audio_buffer.speech_started"]
    assert types(client.model_says(REPLY[2])) == ["response.output_text.delta"]
    assert client.keeps_speaking() == []
    assert types([*client.pauses(), *client.stops()]) == TURN_TAKEN
    assert types(client.model_says(FINISHED))[-3:] == [
        "response.done",
        "StartReply",
        "response.created",
    ]
    # What the second reply tells of is the turn that it answers.
    told = latency(client.model_says(*REPLY))
    assert (told["speech_end_ms"], told["turn_end_ms"]) == ("3300", "4000")


LONG = "x" * (CONTEXT_TOKENS * MOST_CHARS_PER_TOKEN + 1)
LONG_TOOL = {"type": "function", "name": "f", "description": LONG}


@pytest.mark.parametrize(
    ("type_", "wish", "param"),
    [
        ("session.update", {"instructions": LONG}, "session.instructions"),
        ("session.update", {"tools": [LONG_TOOL]}, "session.tools"),
        (
            "session.update",
            {"audio": {"input": {"transcription": {"prompt": LONG}}}},
            "session.audio.input.transcription.prompt",
        ),
        ("response.create", {"instructions": LONG}, "response.instructions"),
        ("response.create", {"conversation": "none", "tools": [LONG_TOOL]}, "response.tools"),
    ],
)
def test_what_no_model_could_read_is_refused_at_once(
    type_: str, wish: dict[str, Any], param: str
) -> None:
    client = Client()
    before = client.session.greeting()["session"]
    (error,) = sent(client.send(type_, **{type_.partition(".")[0]: wish}))
    assert (error["error"]["code"], error["error"]["param"], error["error"]["event_id"]) == (
        "string_above_max_length",
        param,
        "mine",
    )
    assert client.session.greeting()["session"] == before
    started = client.send("response.create", response={"instructions": "Be brief."})
    assert types(started) == ["StartReply", "response.created"]


def test_too_much_text_in_functions_is_told_as_such() -> None:
    tools = [{**LONG_TOOL, "description": LONG[:5000]}] * 2
    (error,) = sent(Client().send("session.update", session={"tools": tools}))
    assert error["error"]["message"].startswith(
        "Invalid 'session.tools': too much text. Expected at most 8000 characters in the whole "
        "array, but got 10"
    )


def test_a_change_of_instructions_in_the_pause_makes_the_guess_stale() -> None:
    client = Client()
    client.starts_to_speak()
    client.pauses()
    client.send("session.update", session={"type": "realtime", "instructions": "Be brief."})
    effects = client.stops()
    assert types(effects)[4:] == ["CancelReply", "StartReply", "response.created"]
    (start,) = [effect for effect in effects if isinstance(effect, StartReply)]
    assert [message.role for message in start.prompt.messages] == ["system", "user"]


def test_long_speech_is_one_message_whose_parts_are_taken_in_as_they_come() -> None:
    client = Client()
    client.starts_to_speak()
    part = utterance(1600, 400_000)
    (prefill,) = client.session.heard(PartEnded(part))
    assert isinstance(prefill, Prefill)
    client.said = utterance(401_600)
    (start,) = client.pauses()
    assert types(client.stops())[4] == "CommitReply"
    assert start.prompt.messages[-1].parts == (
        AudioPart.of(part.samples),
        AudioPart.of(client.said.samples),
    )


MANUAL = {"type": "realtime", "audio": {"input": {"turn_detection": None}}}


def test_manual_turns() -> None:
    client = Client(**MANUAL)
    assert client.session.hearing is None
    (feed,) = client.send("input_audio_buffer.append", audio=pcm())
    assert isinstance(feed, Feed) and (len(feed.samples), feed.sample_rate_hz) == (4800, 24_000)
    assert client.send("input_audio_buffer.commit") == [FlushHearing("mine")]
    assert types(client.session.flushed(utterance(), "mine")) == TURN_TAKEN[1:]
    assert types(client.send("response.create")) == ["StartReply", "response.created"]
    assert types(client.model_says(*REPLY)) == TURN_ANSWERED[1:]


@pytest.mark.parametrize(("format", "silence"), [("audio/pcmu", 0), ("audio/pcma", 8)])
def test_a_telephone_is_heard_at_its_rate(format: str, silence: int) -> None:
    input_ = {"turn_detection": None, "format": {"type": format}}
    client = Client(type="realtime", audio={"input": input_})
    quiet = base64.b64encode({0: b"\xff", 8: b"\xd5"}[silence] * 1600).decode()
    (feed,) = client.send("input_audio_buffer.append", audio=quiet)
    assert isinstance(feed, Feed) and feed.sample_rate_hz == 8000
    assert feed.samples.tolist() == [silence] * 1600
    content = [{"type": "input_audio", "audio": quiet}]
    item = {"type": "message", "role": "user", "content": content}
    client.send("conversation.item.create", item=item)
    (audio,) = client.session.messages[0].parts
    assert isinstance(audio, AudioPart) and len(audio.samples) == 3200


def test_what_was_heard_before_detection_was_switched_on_belongs_to_no_turn() -> None:
    client = Client(**MANUAL)
    client.session.heard(PartEnded(utterance(1600, 400_000)))
    on = {"audio": {"input": {"turn_detection": {"type": "server_vad"}}}}
    assert types(client.send("session.update", session=on)) == [
        "ConfigureHearing",
        "session.updated",
    ]
    client.speaks(500_000)
    assert client.session.messages[-1].parts == (AudioPart.of(utterance(500_000).samples),)


def test_an_empty_buffer_committed_is_an_error_and_nothing_else() -> None:
    client = Client(**MANUAL)
    (error,) = sent(client.session.flushed(None, "mine"))
    assert error["error"]["code"] == "input_audio_buffer_commit_empty"
    assert error["error"]["event_id"] == "mine"
    assert client.session.messages == ()


def test_a_commit_in_the_middle_of_a_turn_takes_it_without_an_answer() -> None:
    client = Client()
    client.starts_to_speak()
    (start,) = client.pauses()
    effects = client.session.flushed(client.said, None)
    assert types(effects) == ["CancelReply", *TURN_TAKEN[1:]]
    assert effects[0] == CancelReply(start.reply_id)
    assert sent(effects)[0]["item_id"] == "item_1"


def test_clear_forgets_the_turn() -> None:
    client = Client()
    client.starts_to_speak()
    client.pauses()
    effects = client.send("input_audio_buffer.clear")
    assert types(effects) == ["ClearHearing", "CancelReply", "input_audio_buffer.cleared"]
    assert ClearHearing() in effects
    assert client.session.messages == ()


def test_typed_items_and_an_answer_to_them() -> None:
    client = Client(**MANUAL)
    item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]}
    added, done = sent(client.send("conversation.item.create", item=item))
    assert (added["type"], done["type"]) == ("conversation.item.added", "conversation.item.done")
    assert added["item"]["content"] == item["content"]
    effects = client.send(
        "response.create",
        response={"instructions": "Sing.", "max_output_tokens": 7, "metadata": {"mine": "1"}},
    )
    start, created = effects[0], sent(effects)[0]
    assert isinstance(start, StartReply)
    assert start.options.max_output_tokens == 7
    assert start.prompt.messages[0].parts == (TextPart("Sing."),)
    assert created["response"]["metadata"] == {"mine": "1"}
    client.model_says(*REPLY)
    assert client.said_by("user") == ["Hi"] and client.said_by("assistant") == ["Good day"]


def test_items_go_where_the_client_wants_them() -> None:
    client = Client(**MANUAL)

    def create(id: str, **fields: Any) -> list[Effect]:
        content = [{"type": "input_text", "text": id}]
        item = {"type": "message", "role": "system", "id": id, "content": content}
        return client.send("conversation.item.create", item=item, **fields)

    create("b")
    create("a", previous_item_id="root")
    create("ab", previous_item_id="a")
    assert client.said_by("system") == ["a", "ab", "b"]
    for wrong, code in (
        ({"id": "a"}, "item_create_duplicate_item_id"),
        ({"id": "c", "previous_item_id": "x"}, "item_create_invalid_previous_item_id"),
    ):
        (error,) = sent(create(**wrong))
        assert error["error"]["code"] == code
    assert client.said_by("system") == ["a", "ab", "b"]


def test_audio_in_an_item_reaches_the_model_at_its_rate() -> None:
    client = Client(**MANUAL)
    content = [
        {"type": "input_audio", "audio": pcm(500)},
        {"type": "input_text", "text": "What is this?"},
    ]
    item = {"type": "message", "role": "user", "content": content}
    client.send("conversation.item.create", item=item)
    audio, text = client.session.messages[0].parts
    assert isinstance(audio, AudioPart) and len(audio.samples) == 8000
    assert text == TextPart("What is this?")


@pytest.mark.parametrize("ms", [50, 31_000])
def test_audio_that_the_model_cannot_take_is_refused(ms: int) -> None:
    client = Client(type="realtime", audio={"input": {"format": {"rate": 16_000}}})
    content = [{"type": "input_audio", "audio": pcm(ms, 16_000)}]
    message = {"type": "message", "role": "user", "content": content}
    event = {"type": "conversation.item.create", "item": message}
    parsed = parse_client_event(orjson.dumps(event), max_bytes=10**7)
    (error,) = sent(client.session.receive(parsed))
    assert error["error"]["param"] == "item.content[0].audio"
    assert "0.1 to 30.0 s" in error["error"]["message"]


def test_one_response_at_a_time() -> None:
    client = Client()
    client.speaks()
    (error,) = sent(client.send("response.create"))
    assert error["error"]["code"] == "conversation_already_has_active_response"
    cancelled = client.send("response.cancel")
    assert types(cancelled) == ["CancelReply", "response.done"]
    details = sent(cancelled)[-1]["response"]["status_details"]
    assert details["reason"] == "client_cancelled"
    (error,) = sent(client.send("response.cancel"))
    assert error["error"]["code"] == "response_cancel_not_active"
    assert error["error"]["message"].startswith("Cancellation failed")


def test_what_is_asked_for_in_a_pause_is_not_interrupted_by_silence() -> None:
    client = Client(instructions="Be brief.")
    client.starts_to_speak()
    client.pauses()
    asked = client.send("response.create")
    assert types(asked) == ["CancelReply", "StartReply", TURN_ANSWERED[0]]
    assert types(client.model_says(*REPLY[:2])) == TURN_ANSWERED[1:5]
    assert types(client.stops()) == TURN_TAKEN
    effects = client.model_says(*REPLY[2:])
    assert types(effects) == [*TURN_ANSWERED[5:], "StartReply", TURN_ANSWERED[0]]
    start = effects[-2]
    assert isinstance(start, StartReply)
    assert [part for message in start.prompt.messages for part in message.parts] == [
        TextPart("Be brief."),
        TextPart("Good day", (1, 2)),
        AudioPart.of(client.said.samples),
    ]
    assert latency(client.model_says(*REPLY))["turn_end_ms"] == "1600"


def test_cancelling_another_response_leaves_this_one() -> None:
    client = Client()
    client.speaks()
    (error,) = sent(client.send("response.cancel", response_id="resp_99"))
    assert error["error"]["code"] == "response_cancel_not_active"
    assert types(client.model_says(*REPLY))[-1] == "response.done"


def test_a_failed_reply_says_why_and_the_session_goes_on() -> None:
    client = Client()
    client.speaks()
    client.model_says(*REPLY[:2])
    reply_id = client.session._dialogue._responder.id
    assert reply_id is not None
    *_, done = sent(client.session.failed(reply_id, "out of memory"))
    assert done["response"]["status"] == "failed"
    assert done["response"]["status_details"]["error"]["message"] == "out of memory"
    assert types(client.speaks(60_000))[-1] == "response.created"


def test_a_guess_that_failed_is_made_again_when_the_turn_ends() -> None:
    client = Client()
    client.starts_to_speak()
    (start,) = client.pauses()
    assert client.session.failed(start.reply_id, "out of memory") == []
    assert types(client.stops()) == [*TURN_TAKEN, "StartReply", "response.created"]


def test_a_reply_that_reaches_its_limit_is_incomplete() -> None:
    client = Client()
    client.speaks()
    effects = client.model_says(*REPLY[:3], Finished("length", USAGE, Timings(1, 2, 3)))
    response = sent(effects)[-1]["response"]
    assert response["status"] == "incomplete"
    assert response["status_details"]["reason"] == "max_output_tokens"


def test_there_is_no_sound_to_stop() -> None:
    """Clients that interrupt a call ask for that too."""
    client = Client()
    client.speaks()
    client.model_says(*REPLY[:2])
    assert client.send("output_audio_buffer.clear") == []
    assert types(client.send("response.cancel"))[-1] == "response.done"


def test_a_function_that_nobody_offered_fails_the_reply() -> None:
    client = Client()
    client.speaks()
    effects = client.model_says(ToolCall("call_1", "get_weather", "{}", (3,)))
    assert types(effects) == ["CancelReply", "response.done"]
    assert sent(effects)[-1]["response"]["status"] == "failed"


def test_settings_change_the_hearing_only_where_it_changes() -> None:
    client = Client()
    effects = client.send(
        "session.update",
        session={"type": "realtime", "audio": {"input": {"turn_detection": {"threshold": 0.7}}}},
    )
    configure, updated = effects
    assert isinstance(configure, ConfigureHearing) and configure.detection is not None
    assert configure.detection.threshold == 0.7
    assert configure.detection.silence_duration_ms == 700
    assert sent([updated])[0]["session"]["audio"]["input"]["turn_detection"]["threshold"] == 0.7
    renamed = client.send("session.update", session={"instructions": "Be brief."})
    assert types(renamed) == ["session.updated"]


def test_audio_past_the_bound_is_told() -> None:
    (error,) = sent(Client().session.heard(AudioDropped(32_000)))
    assert error["error"]["code"] == "input_audio_buffer_full"
    assert "Commit or clear it" in error["error"]["message"]


def test_the_session_ends_at_its_deadline() -> None:
    client = Client()
    assert client.session.next_deadline_ms == 60_000
    assert client.session.time(59_999) == []
    effects = client.session.time(60_000)
    assert types(effects) == ["error", "Close"]
    assert isinstance(effects[-1], Close)
    assert client.session.next_deadline_ms is None


def full(tokens: int) -> Finished:
    """The end of a reply after which the conversation takes so many tokens."""
    return Finished("stop", Usage(TokenCount(tokens - 2, 0), TokenCount(), 2), Timings(1, 2, 3))


@pytest.mark.parametrize(("tokens", "left"), [(750, 6), (751, 2)])
def test_a_context_that_fills_up_is_emptied_by_half_while_nobody_waits(
    tokens: int, left: int
) -> None:
    client = Client()
    for _ in range(2):
        client.speaks()
        client.model_says(*REPLY)
    client.speaks()
    effects = client.model_says(*REPLY[:3], full(tokens))
    prefills = [effect for effect in effects if isinstance(effect, Prefill)]
    assert len(client.session.messages) == left
    assert [prefill.prompt.messages for prefill in prefills] == (
        [client.session.messages] if left < 6 else []
    )


def test_a_session_that_nothing_goes_on_in_ends_when_it_is_to_end() -> None:
    assert Client().session.leave("Bye.") == [Close("Bye.")]


def test_a_session_that_is_to_end_lets_a_turn_and_its_reply_come_to_their_end() -> None:
    client = Client()
    client.starts_to_speak()
    assert client.session.leave("Bye.") == []
    spoken = [*client.pauses(), *client.stops(), *client.model_says(*REPLY[:-1])]
    assert not any(isinstance(effect, Close) for effect in spoken)
    *told, last = client.model_says(FINISHED)
    assert types(told)[-1] == "response.done"
    assert last == Close("Bye.")


def test_a_session_that_is_to_end_ends_where_the_client_takes_nothing() -> None:
    client = Client()
    client.starts_to_speak()
    assert client.session.leave("Bye.") == []
    effects = client.session.flushed(None, "mine")
    assert types(effects) == ["error", "Close"]


def test_a_session_that_is_to_end_waits_for_responses_beside_it_too() -> None:
    client = Client(instructions="Be brief.")
    (start, *_) = client.send("response.create", response={"conversation": "none"})
    assert isinstance(start, StartReply)
    assert client.session.leave("Bye.") == []
    for event in REPLY[:-1]:
        assert Close("Bye.") not in client.session.generated(start.reply_id, event)
    assert client.session.generated(start.reply_id, FINISHED)[-1] == Close("Bye.")
