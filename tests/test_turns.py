"""Turn-taking as lists of what happens and what is done about it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.turns import TurnAction, TurnRules, TurnTaker

SPECULATE, WITHDRAW, PROMOTE = TurnAction.SPECULATE, TurnAction.WITHDRAW, TurnAction.PROMOTE
ANSWER, INTERRUPT = TurnAction.ANSWER, TurnAction.INTERRUPT


def play(rules: TurnRules, *happenings: str) -> list[TurnAction]:
    """All actions for a list of happenings: names of TurnTaker's methods."""
    turns = TurnTaker(rules)
    return [action for happening in happenings for action in do(turns, happening)]


def do(turns: TurnTaker, happening: str) -> list[TurnAction]:
    name, _, guess = happening.partition(" ")
    arguments: dict[str, Any] = {"as_guessed": guess != "differently"} if "stopped" in name else {}
    return getattr(turns, name)(**arguments)


TURN = ("speech_started", "pause_began", "speech_stopped")


@pytest.mark.parametrize(
    ("rules", "happenings", "actions"),
    [
        pytest.param({}, TURN, [SPECULATE, PROMOTE], id="a turn whose pause was the end"),
        pytest.param(
            {},
            ("speech_started", "pause_began", "speech_resumed", "pause_began", "speech_stopped"),
            [SPECULATE, WITHDRAW, SPECULATE, PROMOTE],
            id="a pause in the middle",
        ),
        pytest.param(
            {},
            ("speech_started", "pause_began", "speech_stopped differently"),
            [SPECULATE, WITHDRAW, ANSWER],
            id="the prompt changed during the pause",
        ),
        pytest.param(
            {}, ("speech_started", "speech_stopped"), [ANSWER], id="a turn cut without a pause"
        ),
        pytest.param({"speculate": False}, TURN, [ANSWER], id="no speculation"),
        pytest.param({"create_response": False}, TURN, [], id="the client answers by itself"),
        pytest.param({}, (*TURN, "speech_started"), [SPECULATE, PROMOTE, INTERRUPT], id="barge-in"),
        pytest.param(
            {},
            (*TURN, "finished", *TURN),
            [SPECULATE, PROMOTE, SPECULATE, PROMOTE],
            id="two turns",
        ),
        pytest.param(
            {"interrupt_response": False},
            (*TURN, *TURN, "finished", "finished"),
            [SPECULATE, PROMOTE, ANSWER],
            id="a turn during a reply that may not be interrupted is answered after it",
        ),
        pytest.param(
            {"interrupt_response": False},
            (*TURN, *TURN, "cancelled", "finished", *TURN, "finished"),
            [SPECULATE, PROMOTE, INTERRUPT, SPECULATE, PROMOTE],
            id="what was owed is owed once",
        ),
        pytest.param(
            {"interrupt_response": False},
            (*TURN, *TURN, "cancelled", "finished"),
            [SPECULATE, PROMOTE, INTERRUPT],
            id="cancelling drops what was owed",
        ),
        pytest.param(
            {},
            ("speech_started", "pause_began", "requested", "speech_stopped"),
            [SPECULATE, WITHDRAW, ANSWER, INTERRUPT, ANSWER],
            id="a client's request goes before the guess, and the turn's end before both",
        ),
        pytest.param(
            {},
            ("speech_started", "pause_began", "input_taken", "requested"),
            [SPECULATE, WITHDRAW, ANSWER],
            id="a commit by the client in a pause",
        ),
        pytest.param(
            {},
            ("speech_started", "pause_began", "finished", "speech_stopped"),
            [SPECULATE, ANSWER],
            id="a failed guess is made good at the end of the turn",
        ),
    ],
)
def test_turns(rules: dict[str, bool], happenings: tuple[str, ...], actions: list[str]) -> None:
    assert play(TurnRules(**rules), *happenings) == actions


class Model:
    """What the actions do to the reply under way; fails where they make no sense."""

    def __init__(self) -> None:
        self.reply = "none"

    def apply(self, action: TurnAction) -> None:
        before, after = {
            SPECULATE: ("none", "ahead"),
            WITHDRAW: ("ahead", "none"),
            PROMOTE: ("ahead", "aloud"),
            ANSWER: ("none", "aloud"),
            INTERRUPT: ("aloud", "none"),
        }[action]
        assert self.reply == before, f"{action} while the reply is {self.reply}"
        self.reply = after


HEARING = {
    "silent": ["speech_started"],
    "speaking": ["pause_began", "speech_stopped", "speech_stopped differently", "input_taken"],
    "paused": ["speech_resumed", "speech_stopped", "speech_stopped differently", "input_taken"],
}
AFTER = {
    "speech_started": "speaking",
    "pause_began": "paused",
    "speech_resumed": "speaking",
    "speech_stopped": "silent",
    "input_taken": "silent",
}


@given(st.data(), st.booleans(), st.booleans(), st.booleans())
def test_any_order_of_happenings_keeps_at_most_one_reply(
    data: st.DataObject, create: bool, interrupt: bool, speculate: bool
) -> None:
    turns = TurnTaker(TurnRules(create, interrupt, speculate))
    model, hearing = Model(), "silent"
    for _ in range(data.draw(st.integers(1, 30))):
        possible = list(HEARING[hearing])
        if model.reply != "none":
            possible.append("finished")
        if model.reply == "aloud":
            possible.append("cancelled")
        else:
            possible.append("requested")
        happening = data.draw(st.sampled_from(possible))
        if happening == "finished":
            model.reply = "none"
        for action in do(turns, happening):
            model.apply(action)
        hearing = AFTER.get(happening.partition(" ")[0], hearing)
        assert turns.replying == (model.reply == "aloud")
        assert turns.speaking == (hearing != "silent")
        if happening.startswith("speech_stopped") and create:
            assert turns.replying
