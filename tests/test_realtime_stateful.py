"""Any client event, sound and token at any time: what a client may rely on always holds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from assistant.engines.engine import Finished, Started, Text, ToolCall
from assistant.realtime.beside import MAX_AT_ONCE
from assistant.realtime.effects import (
    CancelReply,
    CommitReply,
    ConfigureHearing,
    Effect,
    FlushHearing,
    Send,
    StartReply,
)
from audio_io.speech_events import (
    PartEnded,
    PauseBegan,
    SpeechConfirmed,
    SpeechResumed,
    SpeechStarted,
    SpeechStopped,
)
from tests.test_realtime_session import FINISHED, LIMITS, REPORT, Client, pcm, utterance
from tests.watch import Watch

VAD = {"type": "server_vad"}
DETECTION = st.sampled_from(
    [
        None,
        VAD,
        {"type": "semantic_vad"},
        {**VAD, "interrupt_response": False},
        {**VAD, "create_response": False},
        {**VAD, "idle_timeout_ms": 1000},
    ]
)
LIMITED = replace(LIMITS, max_messages=6)
"""So that there is not always room for all."""
TIGHT = {
    "type": "retention_ratio",
    "retention_ratio": 0,
    "token_limits": {"post_instructions": 1},
}
"""Each reply's end makes room."""
TOOLS = [{"type": "function", "name": "get_weather"}]
IDS = ["a", "b", "item_1", "item_2", "item_3", "item_4", "x"]
"""Of the client's own items, of those that the session makes first, and of none."""
TEXT = {
    "user": [{"type": "input_text", "text": "Hello"}],
    "system": [{"type": "input_text", "text": "Be brief."}],
    "assistant": [{"type": "output_text", "text": " 0 1"}],
}


def item(kind: str, id: str | None) -> dict[str, Any]:
    match kind:
        case "call":
            call = {"type": "function_call", "name": "get_weather", "arguments": "{}"}
            return {**call, "call_id": "mine", "id": id}
        case "output":
            return {"type": "function_call_output", "call_id": "mine", "output": "sun", "id": id}
        case "sound":
            content = [{"type": "input_audio", "audio": pcm()}, *TEXT["user"]]
            return {"type": "message", "role": "user", "content": content, "id": id}
        case _:
            return {"type": "message", "role": kind, "content": TEXT[kind], "id": id}


class Realtime(RuleBasedStateMachine):
    """A session, a segmenter that keeps its promises, and a model that answers what it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.client = Client(takes_tools=True, limits=LIMITED)
        self.session = self.client.session
        self.watch = Watch()
        self.position = 0
        self.hearing = "silent"
        self.detecting = True
        self.interrupts = True
        self.announced = False  # the turn that is open, or was last
        self.confirmed = False
        self.held: set[str] = set()  # responses of which nothing may be shown now
        self.turns_taken = 0
        self.started: dict[str, StartReply] = {}
        self.said: dict[str, str] = {}  # by each reply
        self.replies: dict[str, str] = {}  # asked | begun | over
        self.cancelled: set[str] = set()

    # What the effects do, and what the events say.

    def carry_out(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send():
                    self.sees(effect.event)
                case StartReply():
                    going_on = [id for id in self.running() if id not in self.cancelled]
                    beside = [id for id in going_on if self.started[id].side]
                    if effect.side:
                        # Transcriptions go one at a time, and are not counted among them.
                        assert len(beside) <= MAX_AT_ONCE
                    else:
                        assert going_on == beside, "a reply was started beside another"
                    self.started[effect.reply_id] = effect
                    self.replies[effect.reply_id] = "asked"
                    self.said[effect.reply_id] = ""
                case CancelReply():
                    self.cancelled.add(effect.reply_id)
                case CommitReply():
                    assert effect.reply_id not in self.cancelled
                case ConfigureHearing():
                    self.detecting = effect.detection is not None
                    if not self.detecting:
                        self.falls_silent()
                case FlushHearing():
                    self.falls_silent()
                    self.position += 20_000
                    found = utterance(self.position) if self.position % 3 else None
                    flushed = self.session.flushed(found, effect.event_id, idle=effect.idle)
                    self.carry_out(flushed)

    def falls_silent(self) -> None:
        self.hearing, self.held = "silent", set()

    def sees(self, event: dict[str, Any]) -> None:
        self.watch.sees(event)
        match event["type"]:
            case "session.updated":
                if vad := event["session"]["audio"]["input"]["turn_detection"]:
                    self.interrupts = vad["interrupt_response"]
            case "input_audio_buffer.speech_started":
                assert not self.announced
                self.announced = True
            case "input_audio_buffer.speech_stopped":
                assert self.announced
            case "input_audio_buffer.committed":
                self.turns_taken += 1
            case "response.output_text.delta":
                id = event["response_id"]
                assert id not in self.held
                assert self.said[id].startswith(self.watch.responses[id].text)
            case "response.done" if event["response"]["status"] == "completed":
                texts = [
                    content["text"]
                    for item in event["response"]["output"]
                    for content in item.get("content", [])
                ]
                assert "".join(texts) == self.said[event["response"]["id"]]

    # The person.

    @precondition(lambda self: self.detecting and self.hearing == "silent")
    @rule()
    def starts_to_speak(self) -> None:
        in_doubt = bool(self.watch.main) and self.interrupts
        self.hearing, self.announced, self.confirmed = "speaking", False, False
        self.position += 20_000
        self.carry_out(self.session.heard(SpeechStarted(self.position)))
        assert self.announced != in_doubt
        self.waits()

    def waits(self) -> None:
        """While a sound in doubt goes on, nothing is shown."""
        if not self.announced:
            self.held = set(self.watch.main)

    @precondition(lambda self: self.hearing == "speaking" and not self.confirmed)
    @rule()
    def keeps_speaking(self) -> None:
        self.confirmed, self.held = True, set()
        self.carry_out(self.session.heard(SpeechConfirmed(self.position)))
        assert self.announced

    @precondition(lambda self: self.hearing == "speaking")
    @rule()
    def speaks_for_long(self) -> None:
        part = utterance(self.position, 16_000)
        self.position = part.end_sample
        self.carry_out(self.session.heard(PartEnded(part)))

    @precondition(lambda self: self.hearing == "speaking")
    @rule()
    def pauses(self) -> None:
        self.hearing, self.held = "paused", set()
        self.carry_out(self.session.heard(PauseBegan(utterance(self.position), self.position)))

    @precondition(lambda self: self.hearing == "paused")
    @rule()
    def goes_on(self) -> None:
        self.hearing = "speaking"
        self.carry_out(self.session.heard(SpeechResumed(self.position)))
        self.waits()

    @precondition(lambda self: self.hearing != "silent")
    @rule(more=st.booleans())
    def stops(self, more: bool) -> None:
        self.falls_silent()
        taken = self.turns_taken + self.announced
        said = utterance(self.position, 16_000 + 160 * more)
        stopped = SpeechStopped(said, self.position, said.end_sample)
        self.position = said.end_sample
        self.carry_out(self.session.heard(stopped))
        assert self.turns_taken == taken

    @rule(ms=st.sampled_from([100, 1000]))
    def time_passes(self, ms: int) -> None:
        self.client.now_ms += ms
        self.carry_out(self.session.time(self.client.now_ms))
        deadline_ms = self.session.next_deadline_ms
        assert deadline_ms is not None and deadline_ms > self.client.now_ms

    # The model.

    def running(self) -> list[str]:
        return [id for id, state in self.replies.items() if state != "over"]

    @precondition(lambda self: self.running())
    @rule(
        data=st.data(), what=st.sampled_from(["text", "text", "call", "finish", "is cut", "fail"])
    )
    def model_goes_on(self, data: st.DataObject, what: str) -> None:
        id = data.draw(st.sampled_from(self.running()))
        if self.replies[id] == "asked":
            self.replies[id] = "begun"
            self.carry_out(self.session.generated(id, Started(REPORT)))
        match what:
            case "text":
                word = f" {len(self.said[id]) // 2}"
                self.said[id] += word
                self.carry_out(self.session.generated(id, Text(word, (1,))))
            case "call":
                call = ToolCall("call", "get_weather", "{}", (2,))
                self.carry_out(self.session.generated(id, call))
            case "finish" | "is cut":
                self.replies[id] = "over"
                reason = "stop" if what == "finish" else "length"
                end = Finished(reason, FINISHED.usage, FINISHED.timings)
                self.carry_out(self.session.generated(id, end))
            case "fail":
                self.replies[id] = "over"
                self.carry_out(self.session.failed(id, "out of memory"))

    # The client.

    def sends(self, type_: str, **fields: Any) -> None:
        self.carry_out(self.client.send(type_, **fields))

    @rule(
        update=st.fixed_dictionaries(
            {},
            optional={
                "instructions": st.sampled_from(["", "Be brief."]),
                "max_output_tokens": st.sampled_from([5, "inf"]),
                "tools": st.sampled_from([[], TOOLS]),
                "truncation": st.sampled_from(["auto", "disabled", TIGHT, "nonsense"]),
                "audio": st.builds(
                    lambda detection, transcription: {
                        "input": {"turn_detection": detection, "transcription": transcription}
                    },
                    DETECTION,
                    st.sampled_from([None, {"language": "en"}]),
                ),
            },
        )
    )
    def updates(self, update: dict[str, Any]) -> None:
        self.sends("session.update", session=update)

    @rule(audio=st.sampled_from([pcm(20), "!"]))
    def appends(self, audio: str) -> None:
        self.sends("input_audio_buffer.append", audio=audio)

    @rule()
    def commits(self) -> None:
        self.sends("input_audio_buffer.commit")

    @rule()
    def clears(self) -> None:
        self.falls_silent()
        self.sends("input_audio_buffer.clear")

    @rule(
        response=st.fixed_dictionaries(
            {},
            optional={
                "instructions": st.just("Sing."),
                "conversation": st.sampled_from(["auto", "none"]),
                "tools": st.just(TOOLS),
                "tool_choice": st.sampled_from(["auto", "none", "required"]),
                "input": st.lists(
                    st.one_of(
                        st.sampled_from(IDS).map(lambda id: {"type": "item_reference", "id": id}),
                        st.builds(item, st.sampled_from(["user", "sound"]), st.just("a")),
                    ),
                    max_size=2,
                ),
            },
        )
    )
    def asks(self, response: dict[str, Any]) -> None:
        self.sends("response.create", response=response)

    @rule(id=st.sampled_from([None, "resp_1", "resp_2", "resp_3", "resp_4"]))
    def cancels(self, id: str | None) -> None:
        self.sends("response.cancel", response_id=id)

    @rule(
        kind=st.sampled_from(["user", "system", "assistant", "sound", "call", "output"]),
        id=st.sampled_from([None, "a", "b"]),
        after=st.sampled_from([None, "root", *IDS]),
        again=st.booleans(),
    )
    def creates(self, kind: str, id: str | None, after: str | None, again: bool) -> None:
        if again and self.watch.items:
            # What LiveKit does to cut a reply: it takes it out, and puts in what was heard.
            id = next(reversed(self.watch.items))
            self.sends("conversation.item.delete", item_id=id)
        event = {"item": item(kind, id), "previous_item_id": after}
        self.sends("conversation.item.create", **event)

    @rule(id=st.sampled_from(IDS), to=st.sampled_from(["retrieve", "delete", "truncate"]))
    def looks_at(self, id: str, to: str) -> None:
        cut = {"content_index": 0, "audio_end_ms": 0} if to == "truncate" else {}
        self.sends(f"conversation.item.{to}", item_id=id, **cut)

    # What always holds.

    @invariant()
    def the_conversation_is_what_was_announced(self) -> None:
        assert {message.id for message in self.session.messages} == set(self.watch.items)

    @invariant()
    def a_response_is_open_only_while_its_reply_goes_on_or_is_held(self) -> None:
        for id in self.watch.responses:
            assert self.replies[id] != "over" or id in self.held
            assert id not in self.cancelled


TestRealtime = Realtime.TestCase
TestRealtime.settings = hypothesis_settings(max_examples=150, stateful_step_count=40, deadline=None)
