"""Items that clients retrieve, delete, cut and create again, at any time."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assistant.engines.engine import Text
from assistant.prompt import AudioPart, TextPart, written_in
from assistant.realtime.effects import Effect, StartReply
from assistant.realtime.prompting import MOST_CHARS_PER_TOKEN
from tests.protocol import sent, types
from tests.test_realtime_session import (
    CONTEXT_TOKENS,
    MANUAL,
    REPLY,
    TURN_TAKEN,
    Client,
    full,
    pcm,
)

LONGEST = CONTEXT_TOKENS * MOST_CHARS_PER_TOKEN
CLOSING = [
    "response.output_text.done",
    "response.content_part.done",
    "response.output_item.done",
    "conversation.item.done",
    "response.done",
]


def types_in(client: Client, id: str, text: str, role: str = "user", **fields: Any) -> list[Effect]:
    kind = "output_text" if role == "assistant" else "input_text"
    content = [{"type": kind, "text": text}]
    item = {"type": "message", "role": role, "id": id, "content": content}
    return client.send("conversation.item.create", item=item, **fields)


def retrieves(client: Client, id: str) -> dict[str, Any]:
    (event,) = sent(client.send("conversation.item.retrieve", item_id=id))
    return event


def deletes(client: Client, id: str) -> list[Effect]:
    return client.send("conversation.item.delete", item_id=id)


def truncates(client: Client, id: str, index: int = 0, ms: int = 0) -> dict[str, Any]:
    (event,) = sent(
        client.send("conversation.item.truncate", item_id=id, content_index=index, audio_end_ms=ms)
    )
    return event


def test_an_item_is_shown_as_it_was_announced() -> None:
    client = Client(**MANUAL)
    added, done = sent(types_in(client, "a", "Hello"))
    assert retrieves(client, "a")["item"] == added["item"] == done["item"]


def test_a_deleted_item_is_gone_and_its_id_free() -> None:
    client = Client(**MANUAL)
    for id in "abc":
        types_in(client, id, id)
    (deleted,) = sent(deletes(client, "b"))
    assert (deleted["type"], deleted["item_id"]) == ("conversation.item.deleted", "b")
    assert client.said_by("user") == ["a", "c"]
    again, _ = sent(types_in(client, "b", "again", previous_item_id="root"))
    assert again["previous_item_id"] is None
    assert client.said_by("user") == ["again", "a", "c"]


def test_a_reply_can_be_cut_while_what_it_answers_is_dropped() -> None:
    """As LiveKit does where it is interrupted, just when the context is full."""
    client = Client()
    client.speaks()
    client.model_says(*REPLY[:-1], full(CONTEXT_TOKENS))
    assert [message.id for message in client.session.messages] == ["item_2"]
    # It doesn't know yet that item_1 is gone.
    deletes(client, "item_2")
    added, _ = sent(types_in(client, "item_2", "Good", "assistant", previous_item_id="item_1"))
    assert added["previous_item_id"] is None
    assert client.said_by("assistant") == ["Good"]
    types_in(client, "item_1", "again")
    added, _ = sent(types_in(client, "next", "x", previous_item_id="item_1"))
    assert added["previous_item_id"] == "item_1"


@pytest.mark.parametrize("to", ["retrieve", "delete", "truncate"])
@pytest.mark.parametrize("id", ["nowhere", "", "item_1"])
def test_what_is_no_item_can_be_neither_shown_nor_changed(to: str, id: str) -> None:
    client = Client(type="realtime", instructions="Be brief.")
    client.starts_to_speak()  # The turn will be item_1, and isn't yet.
    cut = {"content_index": 0, "audio_end_ms": 0} if to == "truncate" else {}
    (error,) = sent(client.send(f"conversation.item.{to}", item_id=id, **cut))
    assert error["error"]["code"] == f"item_{to}_invalid_item_id"
    assert error["error"]["event_id"] == "mine"


def test_a_reply_is_shown_as_far_as_it_has_come() -> None:
    client = Client()
    client.speaks()
    client.model_says(*REPLY[:2])
    item = retrieves(client, "item_2")["item"]
    assert (item["status"], item["content"]) == (
        "in_progress",
        [{"type": "output_text", "text": "Good"}],
    )
    client.model_says(*REPLY[2:])
    item = retrieves(client, "item_2")["item"]
    assert (item["status"], item["content"][0]["text"]) == ("completed", "Good day")


def test_an_item_that_is_put_first_stays_where_others_must_go() -> None:
    client = Client()
    for number in range(100):
        types_in(client, f"{number}", "x")
    types_in(client, "first", "x", previous_item_id="root")
    assert retrieves(client, "first")["item"]["id"] == "first"
    (error,) = sent(client.send("conversation.item.retrieve", item_id="0"))
    assert error["error"]["code"] == "item_retrieve_invalid_item_id"


def test_a_reply_that_is_being_said_stays_where_others_must_go() -> None:
    client = Client()
    client.speaks()
    client.model_says(*REPLY[:2])
    for id in "ab":
        types_in(client, id, "x" * 6_000)
    assert client.said_by("user") == ["x" * 6_000]
    assert retrieves(client, "item_2")["item"]["status"] == "in_progress"
    client.model_says(*REPLY[2:])
    assert client.said_by("assistant") == ["Good day"]


def test_a_reply_that_was_cut_off_is_shown_as_its_end_was_told() -> None:
    client = Client()
    client.speaks()
    client.model_says(*REPLY[:2])
    effects = sent(client.send("response.cancel"))
    (done,) = [event for event in effects if event["type"] == "conversation.item.done"]
    assert done["item"]["status"] == "incomplete"
    assert retrieves(client, "item_2")["item"] == done["item"]


@pytest.mark.parametrize(
    ("status", "shown"),
    [("incomplete", "incomplete"), ("completed", "completed"), ("in_progress", "completed")],
)
def test_an_item_that_was_cut_off_elsewhere_stays_incomplete(status: str, shown: str) -> None:
    client = Client(**MANUAL)
    content = [{"type": "output_text", "text": "Good"}]
    item = {"type": "message", "role": "assistant", "status": status, "content": content}
    added, done = sent(client.send("conversation.item.create", item=item))
    assert added["item"]["status"] == done["item"]["status"] == shown
    assert retrieves(client, "item_1")["item"]["status"] == shown


def test_deleting_what_is_just_being_said_ends_the_reply() -> None:
    client = Client()
    client.speaks()
    client.model_says(*REPLY[:2])
    effects = deletes(client, "item_2")
    assert types(effects) == ["CancelReply", *CLOSING, "conversation.item.deleted"]
    details = sent(effects)[-2]["response"]["status_details"]
    assert details == {"type": "cancelled", "reason": "client_cancelled"}
    assert client.said_by("assistant") == []


def test_what_is_being_said_may_have_to_go_as_it_is_deleted() -> None:
    """A reply that is cut short makes room for the next turn, as any that ends."""
    limited = {"retention_ratio": 0, "token_limits": {"post_instructions": 1}}
    client = Client(type="realtime", truncation={"type": "retention_ratio", **limited})
    client.speaks()
    client.model_says(*REPLY[:2])
    types_in(client, "next", "Hello")
    deleted = "conversation.item.deleted"
    assert types(deletes(client, "item_2")) == [
        "CancelReply",
        *CLOSING,
        deleted,
        deleted,
        "Prefill",
    ]
    assert [message.id for message in client.session.messages] == ["next"]
    assert types(client.send("response.create")) == ["StartReply", "response.created"]


def test_deleting_what_is_answered_lets_the_reply_go_on() -> None:
    client = Client()
    client.speaks()
    client.model_says(*REPLY[:2])
    assert types(deletes(client, "item_1")) == ["conversation.item.deleted"]
    *_, item_done, _ = sent(client.model_says(*REPLY[2:]))
    assert item_done["previous_item_id"] is None
    assert [message.id for message in client.session.messages] == ["item_2"]


def test_a_deletion_in_the_pause_makes_the_guess_stale() -> None:
    client = Client()
    types_in(client, "a", "Speak French.", role="system")
    client.starts_to_speak()
    client.pauses()
    deletes(client, "a")
    effects = client.stops()
    assert types(effects) == [*TURN_TAKEN, "CancelReply", "StartReply", "response.created"]


@pytest.mark.parametrize(
    ("left", "parts"),
    [
        ("Good day", [TextPart("Good day", (1, 2))]),
        ("Good", [TextPart("Good", (1,))]),
        ("Good d", [TextPart("Good", (1,)), TextPart(" d")]),
        ("Good evening", [TextPart("Good", (1,)), TextPart(" evening")]),
        ("Go", [TextPart("Go")]),
        ("Good day to you", [TextPart("Good day", (1, 2)), TextPart(" to you")]),
    ],
)
@pytest.mark.parametrize("ahead", [True, False])
def test_a_reply_that_a_client_cuts_keeps_its_tokens(
    ahead: bool, left: str, parts: list[TextPart]
) -> None:
    client = Client()
    client.starts_to_speak()
    client.pauses()
    if ahead:  # Then both words are shown in one delta.
        client.model_says(*REPLY)
        client.stops()
    else:
        client.stops()
        client.model_says(*REPLY)
    deletes(client, "item_2")
    added, _ = sent(types_in(client, "item_2", left, "assistant", previous_item_id="item_1"))
    assert added["item"]["content"] == [{"type": "output_text", "text": left}]
    assert client.session.messages[-1].parts == tuple(parts)


LONG = "x" * (LONGEST + 1)
HALF = {"type": "input_text", "text": LONG[: LONGEST // 2 + 1]}
SAID = {"type": "message", "role": "user"}
CALL = {"type": "function_call", "call_id": "call", "name": "f", "arguments": "{}"}
OUTPUT = {"type": "function_call_output", "call_id": "call", "output": "sun"}


@pytest.mark.parametrize(
    ("item", "where"),
    [
        ({**SAID, "content": [{"type": "input_text", "text": LONG}]}, "content[0].text"),
        ({**SAID, "content": [HALF, HALF]}, "content[1].text"),
        (
            {**SAID, "content": [{"type": "input_audio", "audio": pcm(), "transcript": LONG}]},
            "content[0].transcript",
        ),
        (
            {
                "type": "message",
                "role": "assistant",
                "content": [{"type": "output_audio", "transcript": LONG}],
            },
            "content[0].transcript",
        ),
        ({**CALL, "arguments": LONG}, "arguments"),
        ({**OUTPUT, "output": LONG}, "output"),
    ],
)
def test_an_item_that_no_model_could_read_is_refused_at_once(
    item: dict[str, Any], where: str
) -> None:
    client = Client()
    client.send("conversation.item.create", item=CALL)
    in_response = {"conversation": "none", "input": [item]}
    for param, effects in (
        (f"item.{where}", client.send("conversation.item.create", item=item)),
        (f"response.input[0].{where}", client.send("response.create", response=in_response)),
    ):
        (error,) = sent(effects)
        assert (error["error"]["code"], error["error"]["param"]) == (
            "string_above_max_length",
            param,
        )
        assert f"Invalid '{param}': string too long." in error["error"]["message"]
    assert len(client.session.messages) == 1
    types_in(client, "mine", "x" * LONGEST)
    assert types(client.send("response.create")) == ["StartReply", "response.created"]


@pytest.mark.parametrize("conversation", ["none", "auto"])
@pytest.mark.parametrize(
    "input_",
    [
        pytest.param([{**SAID, "content": [HALF]}] * 2, id="texts"),
        pytest.param([{"type": "item_reference", "id": "half"}] * 2, id="one item twice"),
        pytest.param(
            [
                {**CALL, "arguments": HALF["text"]},
                {**OUTPUT, "output": HALF["text"]},
            ],
            id="a call and what came of it",
        ),
    ],
)
def test_what_no_model_could_read_together_is_refused_at_once(
    conversation: str, input_: list[dict[str, Any]]
) -> None:
    client = Client()
    client.send("conversation.item.create", item={**SAID, "id": "half", "content": [HALF]})
    response = {"conversation": conversation, "input": input_}
    effects = client.send("response.create", response=response)
    assert types(effects) == ["error"]
    (error,) = sent(effects)
    assert (error["error"]["code"], error["error"]["param"]) == (
        "string_above_max_length",
        "response.input",
    )
    told = "Invalid 'response.input': too much text. Expected at most 8000 characters in the whole"
    assert error["error"]["message"].startswith(told)
    response["input"] = input_[:1]
    (error,) = sent(
        client.send("response.create", response={**response, "instructions": HALF["text"]})
    )
    assert error["error"]["code"] == "string_above_max_length"
    assert error["error"]["param"].startswith("response.input")
    assert types(client.send("response.create", response=response))[0] == "StartReply"


def test_a_reply_that_was_spoken_elsewhere_is_taken_by_its_words() -> None:
    client = Client(**MANUAL)
    content = [{"type": "output_audio", "transcript": "Good day"}]
    item = {"type": "message", "role": "assistant", "content": content}
    added, _ = sent(client.send("conversation.item.create", item=item))
    assert added["item"]["content"] == [{"type": "output_text", "text": "Good day"}]
    assert client.said_by("assistant") == ["Good day"]


def test_another_item_with_the_same_words_has_no_tokens() -> None:
    client = Client()
    client.speaks()
    client.model_says(*REPLY)
    types_in(client, "mine", "Good day", "assistant")
    assert client.session.messages[-1].parts == (TextPart("Good day"),)


def test_an_interrupted_reply_keeps_the_tokens_that_were_shown() -> None:
    client = Client()
    client.speaks()
    client.model_says(*REPLY[:3], Text(", madam", (3, 4)))
    client.starts_to_speak(40_000)
    client.keeps_speaking()
    deletes(client, "item_2")
    types_in(client, "item_2", "Good day", "assistant")
    assert client.session.messages[-1].parts == (TextPart("Good day", (1, 2)),)


def test_no_item_is_mistaken_for_the_instructions() -> None:
    client = Client(**MANUAL, instructions="Be brief.")
    types_in(client, "instructions", "Speak French.", role="system")
    start = client.send("response.create")[0]
    assert isinstance(start, StartReply)
    ids = [message.id for message in start.prompt.messages]
    assert len(set(ids)) == 2 and ids[1] == "instructions"


def test_a_reply_of_text_has_no_sound_to_cut() -> None:
    client = Client()
    client.speaks()
    client.model_says(*REPLY)
    assert truncates(client, "item_2")["type"] == "conversation.item.truncated"
    for wrong, param in (
        ({"ms": 500}, "audio_end_ms"),
        ({"index": 1}, "content_index"),
        ({"id": "item_1"}, "item_id"),
    ):
        error = truncates(client, **{"id": "item_2", **wrong})["error"]
        assert (error["code"], error["param"]) == ("invalid_value", param)
    assert client.said_by("assistant") == ["Good day"]


CONTENTS = st.lists(
    st.one_of(
        st.text(max_size=5).map(lambda text: {"type": "input_text", "text": text}),
        st.sampled_from([200, 300]).map(
            lambda ms: {"type": "input_audio", "audio": pcm(ms), "transcript": str(ms)}
        ),
    ),
    min_size=1,
    max_size=5,
)


@settings(deadline=None, max_examples=30)
@given(st.lists(CONTENTS, min_size=1, max_size=3))
def test_sounds_and_texts_reach_the_model_in_the_order_that_they_were_sent_in(
    contents: list[list[dict[str, Any]]],
) -> None:
    """Several of each in one message, typed ones between spoken turns."""
    client = Client()
    asked: list[list[int | str]] = []
    for content in contents:
        client.speaks()
        client.model_says(*REPLY)
        item = {"type": "message", "role": "user", "content": content}
        added, _ = sent(client.send("conversation.item.create", item=item))
        shown = [{k: v for k, v in part.items() if k != "audio"} for part in content]
        assert added["item"]["content"] == shown
        lengths = [int(part["transcript"]) if "audio" in part else part["text"] for part in content]
        asked += [[1000], ["Good day"], lengths]
    (start, _) = client.send("response.create")
    assert isinstance(start, StartReply)
    assert [
        [
            len(part.samples) // 16 if isinstance(part, AudioPart) else "".join(written_in(part))
            for part in message.parts
        ]
        for message in start.prompt.messages
    ] == asked
