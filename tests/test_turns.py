"""Turn-taking as lists of what happens and what is done about it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.turns import TurnAction, TurnRules, TurnTaker

SPECULATE, WITHDRAW, PROMOTE = TurnAction.SPECULATE, TurnAction.WITHDRAW, TurnAction.PROMOTE
ANSWER, INTERRUPT, ANNOUNCE = TurnAction.ANSWER, TurnAction.INTERRUPT, TurnAction.ANNOUNCE
HOLD, RELEASE = TurnAction.HOLD, TurnAction.RELEASE


def play(rules: TurnRules, *happenings: str) -> list[TurnAction]:
    """All actions for a list of happenings: names of TurnTaker's methods."""
    turns = TurnTaker(rules)
    return [action for happening in happenings for action in do(turns, happening)]


def do(turns: TurnTaker, happening: str) -> list[TurnAction]:
    name, _, guess = happening.partition(" ")
    arguments: dict[str, Any] = {"as_guessed": guess != "differently"} if "stopped" in name else {}
    return getattr(turns, name)(**arguments)


TURN = ("speech_started", "pause_began", "speech_stopped")


SPOKEN = ("speech_started", "speech_confirmed", "pause_began", "speech_stopped")
TAKEN = [ANNOUNCE, SPECULATE, PROMOTE]


@pytest.mark.parametrize(
    ("rules", "happenings", "actions"),
    [
        pytest.param({}, TURN, TAKEN, id="a turn whose pause was the end"),
        pytest.param({}, SPOKEN, TAKEN, id="the same, and longer"),
        pytest.param(
            {},
            ("speech_started", "pause_began", "speech_resumed", "pause_began", "speech_stopped"),
            [ANNOUNCE, SPECULATE, WITHDRAW, SPECULATE, PROMOTE],
            id="a pause in the middle",
        ),
        pytest.param(
            {},
            ("speech_started", "pause_began", "speech_stopped differently"),
            [ANNOUNCE, SPECULATE, WITHDRAW, ANSWER],
            id="the prompt changed during the pause",
        ),
        pytest.param(
            {},
            ("speech_started", "speech_stopped"),
            [ANNOUNCE, ANSWER],
            id="a turn cut without a pause",
        ),
        pytest.param({"speculate": False}, TURN, [ANNOUNCE, ANSWER], id="no speculation"),
        pytest.param({"create_response": False}, TURN, [ANNOUNCE], id="the client answers"),
        pytest.param({}, (*TURN, "finished", *TURN), [*TAKEN, *TAKEN], id="two turns"),
        pytest.param(
            {},
            (*TURN, *SPOKEN),
            [*TAKEN, HOLD, ANNOUNCE, INTERRUPT, SPECULATE, PROMOTE],
            id="barge-in",
        ),
        pytest.param(
            {},
            (*TURN, "speech_started", "pause_began", "speech_dismissed", "finished"),
            [*TAKEN, HOLD, RELEASE],
            id="a cough during a reply",
        ),
        pytest.param(
            {},
            (*TURN, "speech_started", "pause_began", "speech_resumed", "speech_confirmed"),
            [*TAKEN, HOLD, RELEASE, HOLD, ANNOUNCE, INTERRUPT],
            id="a cough, and then more",
        ),
        pytest.param(
            {},
            (*TURN, "speech_started", "speech_dismissed"),
            [*TAKEN, HOLD, RELEASE],
            id="a cough that has no pause",
        ),
        pytest.param(
            {},
            (*TURN, "speech_started", "pause_began", "finished", "speech_stopped"),
            [*TAKEN, HOLD, RELEASE, *TAKEN],
            id="a short answer at the end of a reply",
        ),
        pytest.param(
            {},
            (*TURN, "speech_started", "pause_began", "finished", "speech_resumed", *SPOKEN[1:]),
            [*TAKEN, HOLD, RELEASE, ANNOUNCE, SPECULATE, WITHDRAW, SPECULATE, PROMOTE],
            id="a turn that began in a reply and outlasts it",
        ),
        pytest.param(
            {},
            (*TURN, "speech_started", "finished", *SPOKEN[1:]),
            [*TAKEN, HOLD, *TAKEN],
            id="a reply that failed while a sound held it",
        ),
        pytest.param(
            {},
            (*TURN, "speech_started", "cancelled", "speech_confirmed", "pause_began"),
            [*TAKEN, HOLD, INTERRUPT, ANNOUNCE, SPECULATE],
            id="the client was quicker",
        ),
        pytest.param(
            {},
            (*TURN, "speech_started", "input_taken", *SPOKEN[:2]),
            [*TAKEN, HOLD, RELEASE, HOLD, ANNOUNCE, INTERRUPT],
            id="what the client takes is in doubt no more, and interrupts nothing",
        ),
        pytest.param(
            {"interrupt_response": False},
            (*TURN, *TURN, "finished", "finished"),
            [*TAKEN, ANNOUNCE, ANSWER],
            id="a turn during a reply that may not be interrupted is answered after it",
        ),
        pytest.param(
            {"interrupt_response": False},
            (*TURN, *SPOKEN, "cancelled", "finished", *TURN, "finished"),
            [*TAKEN, ANNOUNCE, INTERRUPT, *TAKEN],
            id="what was owed is owed once",
        ),
        pytest.param(
            {"interrupt_response": False},
            (*TURN, *TURN, "cancelled", "finished"),
            [*TAKEN, ANNOUNCE, INTERRUPT],
            id="cancelling drops what was owed",
        ),
        pytest.param(
            {},
            ("speech_started", "pause_began", "requested", "speech_stopped", "finished"),
            [ANNOUNCE, SPECULATE, WITHDRAW, ANSWER, ANSWER],
            id="a client's request in a pause goes before the guess, and before the turn's end",
        ),
        pytest.param(
            {},
            ("requested", *SPOKEN),
            [ANSWER, HOLD, ANNOUNCE, INTERRUPT, SPECULATE, PROMOTE],
            id="what a client asked for is interrupted like any reply",
        ),
        pytest.param(
            {},
            ("speech_started", "pause_began", "requested", "speech_resumed", *SPOKEN[2:]),
            [ANNOUNCE, SPECULATE, WITHDRAW, ANSWER, INTERRUPT, ANSWER],
            id="speech that resumes after a client's request goes before it",
        ),
        pytest.param(
            {},
            ("speech_started", "requested", "pause_began", "speech_stopped"),
            [ANNOUNCE, ANSWER, INTERRUPT, ANSWER],
            id="and so does speech that goes on",
        ),
        pytest.param(
            {},
            ("speech_started", "pause_began", "input_taken", "requested"),
            [ANNOUNCE, SPECULATE, WITHDRAW, ANSWER],
            id="a commit by the client in a pause",
        ),
        pytest.param(
            {},
            ("speech_started", "pause_began", "finished", "speech_stopped"),
            [ANNOUNCE, SPECULATE, ANSWER],
            id="a failed guess is made good at the end of the turn",
        ),
    ],
)
def test_turns(rules: dict[str, bool], happenings: tuple[str, ...], actions: list[str]) -> None:
    assert play(TurnRules(**rules), *happenings) == actions


def test_the_rule_that_holds_when_speech_is_confirmed_decides() -> None:
    turns = TurnTaker(TurnRules())
    for happening in (*TURN, "speech_started"):
        do(turns, happening)
    turns.rules.interrupt_response = False
    assert do(turns, "speech_confirmed") == [ANNOUNCE, RELEASE]
    assert [*do(turns, "pause_began"), *do(turns, "speech_stopped")] == []
    assert do(turns, "finished") == [ANSWER]


def test_a_turn_that_interrupts_covers_the_one_before_it() -> None:
    turns = TurnTaker(TurnRules(interrupt_response=False))
    for happening in (*TURN, *TURN):
        do(turns, happening)
    turns.rules.interrupt_response = True
    actions = [action for happening in SPOKEN for action in do(turns, happening)]
    assert actions == [HOLD, ANNOUNCE, INTERRUPT, SPECULATE, PROMOTE]
    assert do(turns, "finished") == []


class Model:
    """What the actions do to the reply under way; fails where they make no sense."""

    def __init__(self) -> None:
        self.reply = "none"
        self.announced = False

    def apply(self, action: TurnAction) -> None:
        if action is ANNOUNCE:
            assert not self.announced
            self.announced = True
            return
        before, after = {
            SPECULATE: (["none"], "ahead"),
            WITHDRAW: (["ahead"], "none"),
            PROMOTE: (["ahead"], "aloud"),
            ANSWER: (["none"], "aloud"),
            HOLD: (["aloud"], "held"),
            RELEASE: (["held"], "aloud"),
            INTERRUPT: (["aloud", "held"], "none"),
        }[action]
        assert self.reply in before, f"{action} while the reply is {self.reply}"
        self.reply = after


GOES_ON = {
    "silent": ["speech_started"],
    "speaking": ["speech_confirmed", "pause_began"],
    "paused": ["speech_resumed"],
}
AFTER = {
    "speech_started": "speaking",
    "pause_began": "paused",
    "speech_resumed": "speaking",
    "speech_dismissed": "silent",
    "speech_stopped": "silent",
    "speech_stopped differently": "silent",
    "input_taken": "silent",
}


@given(st.data(), st.booleans(), st.booleans(), st.booleans())
def test_any_order_of_happenings_keeps_at_most_one_reply(
    data: st.DataObject, create: bool, interrupt: bool, speculate: bool
) -> None:
    turns = TurnTaker(TurnRules(create, interrupt, speculate))
    model, hearing = Model(), "silent"
    for _ in range(data.draw(st.integers(1, 30))):
        possible = list(GOES_ON[hearing])
        if hearing != "silent":
            stopped = ["speech_stopped", "speech_stopped differently"]
            possible += ["input_taken", *(["speech_dismissed"] if turns.in_doubt else stopped)]
        if model.reply != "none":
            possible.append("finished")
        possible.append("cancelled" if model.reply in ("aloud", "held") else "requested")
        happening = data.draw(st.sampled_from(possible))
        if happening == "finished":
            model.reply = "none"
        if happening == "speech_started":
            model.announced = False
            during_reply = model.reply == "aloud"
        for action in do(turns, happening):
            model.apply(action)
        hearing = AFTER.get(happening, hearing)
        assert turns.replying == (model.reply in ("aloud", "held"))
        assert turns.speaking == (hearing != "silent")
        if hearing == "silent":
            assert model.reply != "held" and not turns.in_doubt
        if happening == "speech_started":
            assert turns.in_doubt == (during_reply and interrupt) != model.announced
        if model.reply == "held":
            assert turns.in_doubt and hearing == "speaking"
        if happening.startswith("speech_stopped"):
            assert model.announced
            assert turns.replying or not create


def test_a_word_said_while_the_client_cancels_is_a_turn() -> None:
    turns = TurnTaker(TurnRules())
    turns.requested()
    turns.speech_started()
    assert turns.cancelled() == [TurnAction.INTERRUPT, TurnAction.ANNOUNCE]
    assert not turns.in_doubt
    assert turns.pause_began() == [TurnAction.SPECULATE]
    assert turns.speech_stopped(as_guessed=True) == [TurnAction.PROMOTE]
