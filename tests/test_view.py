"""What `talk` shows, event by event."""

from __future__ import annotations

from functools import reduce as fold
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.view import Problem, Reply, Speech, Turn, View, noted, printable, reduce

CREATED = {"type": "session.created", "session": {"model": "scripted"}}


def started(number: int, at_ms: int = 0) -> dict[str, Any]:
    return {
        "type": "input_audio_buffer.speech_started",
        "item_id": f"item_{number}",
        "audio_start_ms": at_ms,
    }


def stopped(number: int, at_ms: int) -> dict[str, Any]:
    return {
        "type": "input_audio_buffer.speech_stopped",
        "item_id": f"item_{number}",
        "audio_end_ms": at_ms,
    }


def created(number: int) -> dict[str, Any]:
    return {"type": "response.created", "response": {"id": f"resp_{number}"}}


def delta(number: int, text: str) -> dict[str, Any]:
    return {
        "type": "response.output_text.delta",
        "response_id": f"resp_{number}",
        "delta": text,
    }


def done(number: int, status: str, **details: Any) -> dict[str, Any]:
    response = {"id": f"resp_{number}", "status": status, "status_details": details or None}
    return {"type": "response.done", "response": response}


def error(number: int, message: str) -> dict[str, Any]:
    return {"type": "error", "event_id": f"event_{number}", "error": {"message": message}}


def after(*events: dict[str, Any]) -> View:
    return fold(reduce, events, View(level_dbfs=-40))


def test_a_turn_and_its_reply() -> None:
    events = [
        CREATED,
        started(1, at_ms=200),
        stopped(1, at_ms=1700),
        created(1),
        delta(1, "Good "),
        delta(1, "day."),
        done(1, "completed"),
    ]
    views = [after(*events[: count + 1]) for count in range(len(events))]
    spoken = Speech("item_1", 200, 1500)
    assert [view.turns for view in views] == [
        (),
        (Speech("item_1", 200),),
        (spoken,),
        (spoken, Reply("resp_1")),
        (spoken, Reply("resp_1", "Good ")),
        (spoken, Reply("resp_1", "Good day.")),
        (spoken, Reply("resp_1", "Good day.", "completed")),
    ]
    assert View(model="scripted").activity == "connecting"  # The microphone gives nothing yet.
    assert [view.activity for view in (after(), *views)] == [
        "connecting",
        "listening",
        "hearing",
        "listening",
        "thinking",
        "replying",
        "replying",
        "listening",
    ]
    assert [view.answer for view in views] == [None] * 6 + [views[-1].turns[-1]]
    assert views[-1].model == "scripted"


def test_an_interruption() -> None:
    view = after(CREATED, created(1), delta(1, "one two"), started(1))
    assert view.activity == "hearing"
    assert [turn.is_open for turn in view.turns] == [True, True]
    view = reduce(view, done(1, "cancelled", reason="turn_detected"))
    assert view.turns == (Reply("resp_1", "one two", "interrupted"), Speech("item_1", 0))
    assert view.answer is None
    view = fold(reduce, [stopped(1, 900), created(2), delta(2, "Yes?")], view)
    assert view.turns[1:] == (Speech("item_1", 0, 900), Reply("resp_2", "Yes?"))


@pytest.mark.parametrize(
    ("event", "reply"),
    [
        (done(1, "completed"), Reply("resp_1", "So", "completed")),
        (done(1, "cancelled", reason="client_cancelled"), Reply("resp_1", "So", "stopped")),
        (done(1, "incomplete", reason="max_output_tokens"), Reply("resp_1", "So", "incomplete")),
        (
            done(1, "failed", error={"message": "out of memory"}),
            Reply("resp_1", "So", "failed", "out of memory"),
        ),
        (done(1, "failed"), Reply("resp_1", "So", "failed")),
        (done(1, "of a later version"), Reply("resp_1", "So", "stopped")),
    ],
)
def test_how_replies_end(event: dict[str, Any], reply: Reply) -> None:
    view = after(CREATED, created(1), delta(1, "So"), event)
    assert view.turns == (reply,)
    assert view.answer == reply and view.activity == "listening"


def test_a_complaint_leaves_everything_as_it_is() -> None:
    view = after(CREATED, created(1), error(1, "too loud"), delta(1, "So"))
    assert view.turns == (Reply("resp_1", "So"), Problem("event_1", "too loud"))
    assert view.activity == "replying"


def test_nothing_that_is_sent_controls_the_terminal() -> None:
    evil = "\x1b[2Jred\x07\x9b31m\r\nnext\ttab\x7f"
    safe = "[2Jred31m\nnext tab"
    assert printable(evil) == safe
    view = after(
        {"type": "session.created", "session": {"model": evil}},
        created(1),
        delta(1, evil),
        error(1, evil),
        done(1, "failed", error={"message": evil}),
    )
    assert view.model == safe
    assert view.turns == (Reply("resp_1", safe, "failed", safe), Problem("event_1", safe))


def test_news_of_the_microphone_come_in_their_place() -> None:
    view = noted(after(started(1), stopped(1, 900)), "The microphone is gone.")
    view = noted(reduce(view, created(1)), "It records again.")
    speech, gone, reply, back = view.turns
    assert (gone, back) == (
        Problem(gone.id, "The microphone is gone."),
        Problem(back.id, "It records again."),
    )
    assert gone.id != back.id
    assert isinstance(speech, Speech) and isinstance(reply, Reply)


EVENTS = st.one_of(
    st.just(CREATED),
    st.builds(started, st.integers(1, 3)),
    st.builds(stopped, st.integers(1, 3), st.integers(0, 9)),
    st.builds(created, st.integers(1, 3)),
    st.builds(delta, st.integers(1, 3), st.text(max_size=3)),
    st.builds(done, st.integers(1, 3), st.sampled_from(["completed", "cancelled", "failed"])),
    st.builds(error, st.integers(1, 3), st.text(max_size=3)),
    st.fixed_dictionaries({"type": st.sampled_from(["response.done", "error", "rate_limits"])}),
)


def ids(turns: tuple[Turn, ...]) -> list[str]:
    return [turn.id for turn in turns]


@given(st.lists(EVENTS, max_size=20))
def test_turns_come_but_never_go_or_move(events: list[dict[str, Any]]) -> None:
    view = View()
    for event in events:
        next_view = reduce(view, event)
        assert ids(next_view.turns)[: len(view.turns)] == ids(view.turns)
        view = next_view
    assert len(set(ids(view.turns))) == len(view.turns)
