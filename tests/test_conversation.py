"""The conversation keeps its order, and its bounds."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.conversation import Conversation
from assistant.prompt import AudioPart, FunctionCall, FunctionOutput, Message, TextPart, make_prompt
from audio_io.pcm import SAMPLE_RATE_HZ

DIGIT = st.integers(0, 9)
STEP = st.sampled_from(["add", "insert", "replace", "delete", "trim"])


def text(id: str, said: str = "so") -> Message:
    return Message(id, "user", (TextPart(said),))


def audio(id: str, seconds: float) -> Message:
    samples = np.zeros(round(seconds * SAMPLE_RATE_HZ), np.int16)
    return Message(id, "user", (AudioPart.of(samples),))


def ids(conversation: Conversation) -> list[str]:
    return [message.id for message in conversation.messages]


def make(max_messages: int = 100, max_audio_s: float = 60) -> Conversation:
    return Conversation(max_messages=max_messages, max_audio_s=max_audio_s, max_text_chars=100)


def test_messages_go_where_they_are_put() -> None:
    conversation = make()
    assert conversation.last_id is None
    assert conversation.add(text("a")) is None
    assert conversation.add(text("b")) == "a"
    assert conversation.insert(text("first"), after=None) is None
    assert conversation.insert(text("between"), after="a") == "a"
    assert ids(conversation) == ["first", "a", "between", "b"]
    with pytest.raises(KeyError):
        conversation.insert(text("lost"), after="nowhere")


def test_a_message_is_replaced_where_it_stands_if_it_still_does() -> None:
    conversation = make()
    conversation.add(text("a"))
    conversation.add(text("b"))
    conversation.replace(text("a", "more"))
    conversation.replace(text("gone"))
    assert conversation.messages == (text("a", "more"), text("b"))


def test_the_prompt_has_instructions_first() -> None:
    said = [text("a"), text("t")]
    assert make_prompt("", said).messages == tuple(said)
    prompt = make_prompt("Be brief.", said)
    assert [message.role for message in prompt.messages] == ["system", "user", "user"]
    assert prompt == make_prompt("Be brief.", said)
    assert prompt != make_prompt("Be long.", said)


def test_equal_audio_makes_equal_prompts() -> None:
    samples = np.arange(1600, dtype=np.int16)
    assert AudioPart.of(samples) == AudioPart.of(samples.copy())
    assert AudioPart.of(samples) != AudioPart.of(samples[1:])


@given(st.lists(st.floats(0, 5), max_size=30), st.integers(1, 10), st.floats(1, 20))
def test_the_oldest_go_until_the_bounds_hold(
    seconds: list[float], max_messages: int, max_audio_s: float
) -> None:
    conversation = make(max_messages, max_audio_s)
    for number, length in enumerate(seconds):
        conversation.add(audio(str(number), length))
    before = ids(conversation)
    gone = conversation.trim()
    dropped = len(gone)
    assert (gone, ids(conversation)) == (before[:dropped], before[dropped:])
    kept = [round(length * SAMPLE_RATE_HZ) for length in seconds[dropped:]]
    most = round(max_audio_s * SAMPLE_RATE_HZ)
    assert len(kept) <= 1 or (sum(kept) <= most and len(kept) <= max_messages)
    if dropped:
        # One fewer would not have been enough.
        kept_with_one_more = [round(seconds[dropped - 1] * SAMPLE_RATE_HZ), *kept]
        assert sum(kept_with_one_more) > most or len(kept_with_one_more) > max_messages


def test_text_is_bounded_too() -> None:
    conversation = make()
    for number in range(5):
        conversation.add(text(str(number), "x" * 40))
    assert conversation.trim() == ["0", "1", "2"]
    assert ids(conversation) == ["3", "4"]
    conversation.add(text("long", "x" * 1000))
    assert conversation.trim() == ["3", "4"]
    assert ids(conversation) == ["long"]


class Watched(tuple[TextPart, ...]):
    """Parts that know how often somebody has gone through them."""

    looks = 0

    def __iter__(self) -> Iterator[TextPart]:
        self.looks += 1
        return super().__iter__()


def test_a_long_conversation_is_not_gone_through_with_each_message_that_comes() -> None:
    conversation = make(max_messages=50)
    parts = [Watched((TextPart("x"),)) for _ in range(200)]
    for number, its in enumerate(parts):
        conversation.add(Message(str(number), "user", its))
        conversation.trim()
    assert ids(conversation) == [str(number) for number in range(150, 200)]
    assert max(its.looks for its in parts) < 10


@given(st.lists(st.tuples(STEP, DIGIT, DIGIT, DIGIT)))
def test_the_bounds_hold_whatever_has_come_and_gone(steps: list[tuple[str, int, int, int]]) -> None:
    conversation = make(max_messages=5, max_audio_s=2)
    for step, at, seconds, chars in steps:
        parts = (audio("", seconds / 4).parts[0], TextPart("x" * chars * 6))
        message = Message(str(at), "user", parts)
        there = ids(conversation)
        match step:
            case "add" if message.id not in there:
                conversation.add(message)
            case "insert" if message.id not in there:
                after = there[chars % len(there)] if there else None
                assert conversation.insert(message, after=after) == after
                assert conversation.previous_id(message.id) == after
            case "replace":
                conversation.replace(message)
            case "delete" if message.id in there:
                conversation.delete(message.id)
            case "trim":
                again = make(max_messages=5, max_audio_s=2)
                for each in conversation.messages:
                    again.add(each)
                assert conversation.trim() == again.trim()
                assert conversation.messages == again.messages


def long_conversation(turns: int) -> Conversation:
    """A system message, then turns of 1 s of speech and a reply of 30 characters."""
    conversation = Conversation(max_messages=1000, max_audio_s=1000, max_text_chars=10**6)
    conversation.add(Message("rules", "system", (TextPart("Be brief."),)))
    for number in range(turns):
        sound = np.full(16_000, number, np.int16)
        conversation.add(Message(f"user_{number}", "user", (AudioPart.of(sound),)))
        conversation.add(Message(f"reply_{number}", "assistant", (TextPart("x" * 30),)))
    return conversation


@pytest.mark.parametrize("to_tokens", [0, 100, 400, 450, 500, 799, 800])
def test_the_oldest_turns_go_and_what_is_left_begins_with_a_turn(to_tokens: int) -> None:
    conversation = long_conversation(10)
    before = conversation.messages
    # 80 tokens a turn: 25 of speech, 55 of text.
    gone = conversation.shorten(text_tokens=550, audio_tokens=250, to_tokens=to_tokens)
    went = len(gone)
    after = conversation.messages
    assert gone == [message.id for message in before[1 : 1 + went]]
    assert after[0].id == "rules"
    assert after[1:] == before[1 + went :]
    assert after[1].role == "user" or len(after) == 2
    if to_tokens >= 100:
        left = (len(after) - 1) // 2 * 80
        assert to_tokens - 100 < left <= to_tokens + 20


def test_the_newest_message_stays_whatever_it_takes() -> None:
    conversation = Conversation(max_messages=10, max_audio_s=100, max_text_chars=1000)
    conversation.add(Message("only", "user", (TextPart("x" * 900),)))
    assert conversation.shorten(text_tokens=900, audio_tokens=0, to_tokens=10) == []


CALL = Message("call", "assistant", (FunctionCall("c1", "get_weather", '{"in":"Rome"}'),))
OUTPUT = Message("output", "tool", (FunctionOutput("c1", "sunny"),))


def test_what_came_of_a_call_is_told_only_where_the_call_is_known() -> None:
    conversation = make()
    for message in (text("a"), CALL, OUTPUT):
        conversation.add(message)
    assert make_prompt("", conversation.messages).messages == (text("a"), CALL, OUTPUT)
    conversation.delete("call")
    assert make_prompt("", conversation.messages).messages == (text("a"),)
    assert ids(conversation) == ["a", "output"]


def test_shortening_leaves_no_output_first() -> None:
    conversation = make()
    for message in (text("a", "x" * 50), CALL, OUTPUT, text("b"), text("c")):
        conversation.add(message)
    conversation.shorten(text_tokens=100, audio_tokens=0, to_tokens=95)
    assert ids(conversation) == ["b", "c"]


def test_functions_count_as_text() -> None:
    conversation = make()
    for message in (CALL, OUTPUT, text("a", "x" * 71)):
        conversation.add(message)
    assert conversation.trim() == []
    conversation.add(text("b", "x"))
    assert conversation.trim() == ["call"]
