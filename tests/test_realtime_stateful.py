"""Any client event, sound and token at any time: what a client may rely on always holds."""

from __future__ import annotations

from typing import Any

from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from assistant.engines.engine import Started, Text
from assistant.realtime.effects import (
    CancelReply,
    CommitReply,
    ConfigureHearing,
    Effect,
    FlushHearing,
    Send,
    StartReply,
)
from audio_io.segmenter import (
    PartEnded,
    PauseBegan,
    SpeechConfirmed,
    SpeechResumed,
    SpeechStarted,
    SpeechStopped,
)
from tests.protocol import valid
from tests.test_realtime_session import FINISHED, REPORT, Client, pcm, utterance


class Realtime(RuleBasedStateMachine):
    """A session, a segmenter that keeps its promises, and a model that answers what it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.client = Client()
        self.session = self.client.session
        self.position = 0
        self.hearing = "silent"
        self.detecting = True
        self.interrupts = True
        self.announced = False  # the turn that is open, or was last
        self.confirmed = False
        self.held: set[str] = set()  # responses of which nothing may be shown now
        self.turns_taken = 0
        self.said: dict[str, str] = {}  # by each reply
        self.replies: dict[str, str] = {}  # asked | begun | over
        self.cancelled: set[str] = set()
        self.open_responses: dict[str, dict[str, Any]] = {}
        self.done_responses: set[str] = set()
        self.items: dict[str, str] = {}  # added | done
        self.event_ids: set[str] = set()

    # What the effects do, and what the events say.

    def carry_out(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send():
                    self.sees(valid(effect.event))
                case StartReply():
                    running = [
                        id
                        for id, state in self.replies.items()
                        if state != "over" and id not in self.cancelled
                    ]
                    assert running == [], "a reply was started beside another"
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
                    self.carry_out(self.session.flushed(found, effect.event_id))

    def falls_silent(self) -> None:
        self.hearing, self.held = "silent", set()

    def sees(self, event: dict[str, Any]) -> None:
        assert event["event_id"] not in self.event_ids
        self.event_ids.add(event["event_id"])
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
            case "response.created":
                id = event["response"]["id"]
                assert id not in self.open_responses and id not in self.done_responses
                assert not self.open_responses, "two responses at a time"
                self.open_responses[id] = {"text": ""}
            case "response.output_item.added":
                self.open_responses[event["response_id"]]["item"] = event["item"]["id"]
            case "response.output_text.delta":
                response = self.open_responses[event["response_id"]]
                assert response["item"] == event["item_id"]
                assert event["response_id"] not in self.held
                response["text"] += event["delta"]
                assert self.said[event["response_id"]].startswith(response["text"])
            case "response.output_text.done":
                assert event["text"] == self.open_responses[event["response_id"]]["text"]
            case "response.done":
                response = self.open_responses.pop(event["response"]["id"])
                self.done_responses.add(event["response"]["id"])
                if event["response"]["status"] == "completed":
                    assert response["text"] == self.said[event["response"]["id"]]
                assert len(event["response"]["output"]) == ("item" in response)
                if "item" in response:
                    assert self.items[response["item"]] == "done"
            case "conversation.item.added":
                assert event["item"]["id"] not in self.items
                assert event["previous_item_id"] is None or event["previous_item_id"] in self.items
                self.items[event["item"]["id"]] = "added"
            case "conversation.item.done":
                assert self.items[event["item"]["id"]] == "added"
                self.items[event["item"]["id"]] = "done"

    # The person.

    @precondition(lambda self: self.detecting and self.hearing == "silent")
    @rule()
    def starts_to_speak(self) -> None:
        in_doubt = bool(self.open_responses) and self.interrupts
        self.hearing, self.announced, self.confirmed = "speaking", False, False
        self.position += 20_000
        self.carry_out(self.session.heard(SpeechStarted(self.position)))
        assert self.announced != in_doubt
        self.waits()

    def waits(self) -> None:
        """While a sound in doubt goes on, nothing is shown."""
        if not self.announced:
            self.held = set(self.open_responses)

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

    # The model.

    def running(self) -> list[str]:
        return [id for id, state in self.replies.items() if state != "over"]

    @precondition(lambda self: self.running())
    @rule(data=st.data(), what=st.sampled_from(["text", "text", "finish", "fail"]))
    def model_goes_on(self, data: st.DataObject, what: str) -> None:
        id = data.draw(st.sampled_from(self.running()))
        if self.replies[id] == "asked":
            self.replies[id] = "begun"
            self.carry_out(self.session.generated(id, Started(REPORT)))
        match what:
            case "text":
                word = f" {len(self.said[id])}"
                self.said[id] += word
                self.carry_out(self.session.generated(id, Text(word, (1,))))
            case "finish":
                self.replies[id] = "over"
                self.carry_out(self.session.generated(id, FINISHED))
            case "fail":
                self.replies[id] = "over"
                self.carry_out(self.session.failed(id, "out of memory"))

    # The client.

    @rule(
        update=st.fixed_dictionaries(
            {},
            optional={
                "instructions": st.sampled_from(["", "Be brief."]),
                "max_output_tokens": st.sampled_from([5, "inf"]),
                "audio": st.sampled_from(
                    [
                        {"input": {"turn_detection": None}},
                        {"input": {"turn_detection": {"type": "server_vad"}}},
                        {"input": {"turn_detection": {"type": "semantic_vad"}}},
                        {
                            "input": {
                                "turn_detection": {
                                    "type": "server_vad",
                                    "interrupt_response": False,
                                }
                            }
                        },
                        {
                            "input": {
                                "turn_detection": {"type": "server_vad", "create_response": False}
                            }
                        },
                    ]
                ),
            },
        )
    )
    def updates(self, update: dict[str, Any]) -> None:
        self.carry_out(self.client.send("session.update", session=update))

    @rule(
        event=st.sampled_from(
            [
                {"type_": "input_audio_buffer.append", "audio": pcm(20)},
                {"type_": "input_audio_buffer.append", "audio": "!"},
                {"type_": "input_audio_buffer.commit"},
                {"type_": "response.create"},
                {"type_": "response.create", "response": {"instructions": "Sing."}},
                {"type_": "response.cancel"},
                {"type_": "response.cancel", "response_id": "resp_1"},
            ]
        )
    )
    def sends(self, event: dict[str, Any]) -> None:
        self.carry_out(self.client.send(**event))

    @rule()
    def clears(self) -> None:
        self.falls_silent()
        self.carry_out(self.client.send("input_audio_buffer.clear"))

    @rule(
        id=st.sampled_from([None, "a", "b"]),
        after=st.sampled_from([None, "root", "a", "x"]),
    )
    def types(self, id: str | None, after: str | None) -> None:
        content = [{"type": "input_text", "text": "Hello"}]
        item = {"type": "message", "role": "user", "content": content, "id": id}
        effects = self.client.send("conversation.item.create", item=item, previous_item_id=after)
        self.carry_out(effects)

    # What always holds.

    @invariant()
    def the_conversation_is_what_was_announced(self) -> None:
        assert {message.id for message in self.session.messages} == set(self.items)

    @invariant()
    def a_response_is_open_only_while_its_reply_goes_on_or_is_held(self) -> None:
        for id in self.open_responses:
            assert self.replies[id] != "over" or id in self.held
            assert id not in self.cancelled


TestRealtime = Realtime.TestCase
TestRealtime.settings = hypothesis_settings(max_examples=150, stateful_step_count=40)
