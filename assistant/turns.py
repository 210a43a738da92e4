"""Whose turn it is, and so what to do about a reply. Pure.

Two things are tracked: whether the person speaks, and whether a reply is under way.

    hearing   SILENT --speech_started--> SPEAKING --pause_began--> PAUSED --speech_stopped--> SILENT
                                             ^------speech_resumed----'

    replying  NOT --Speculate--> AHEAD --Promote--> ALOUD --finished--> NOT
               ^----Withdraw-------'                  |
               |--------------Answer----------------->|
               '-------------Interrupt----------------'

A reply is AHEAD while it is made on the guess that a pause ends the turn: nothing of it is shown.
It is ALOUD once its turn is over, or a client asked for it.

The rules:
- a pause starts a reply ahead, unless one is aloud; speech that resumes withdraws it;
- the end of a turn promotes the reply ahead where it was made for exactly this turn, else it
  starts one;
- speech during a reply aloud interrupts it, if the client wants that; where it doesn't, the turn is
  answered when the reply has finished;
- what a client asks for goes before what was guessed.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto


class TurnAction(Enum):
    """What the owner of a TurnTaker has to do, in the order given."""

    SPECULATE = auto()
    """Start a reply to the turn as it stands, and show nothing of it."""
    WITHDRAW = auto()
    """Cancel the reply ahead; nobody has seen it."""
    PROMOTE = auto()
    """The reply ahead answers the turn: show what there is, and all that comes."""
    ANSWER = auto()
    """Start a reply and show it."""
    INTERRUPT = auto()
    """Cancel the reply aloud; what was shown of it stays said."""


class _Hearing(Enum):
    SILENT = auto()
    SPEAKING = auto()
    PAUSED = auto()


class _Replying(Enum):
    NOT = auto()
    AHEAD = auto()
    ALOUD = auto()


@dataclass(slots=True)
class TurnRules:
    """What a client may choose about turns; changeable at any time."""

    create_response: bool = True
    """Answer a turn when it ends."""
    interrupt_response: bool = True
    """Speech cancels the reply aloud."""
    speculate: bool = True
    """Use pauses for replies ahead."""


class TurnTaker:
    """Decides when to start, show and cancel replies. At most one is under way."""

    def __init__(self, rules: TurnRules) -> None:
        self.rules = rules
        self._hearing = _Hearing.SILENT
        self._replying = _Replying.NOT
        self._owed = False  # a turn ended during a reply that may not be interrupted

    @property
    def speaking(self) -> bool:
        """Whether a turn of the person's is open, be it in a pause."""
        return self._hearing is not _Hearing.SILENT

    @property
    def replying(self) -> bool:
        """Whether a reply is aloud."""
        return self._replying is _Replying.ALOUD

    def speech_started(self) -> list[TurnAction]:
        self._hearing = _Hearing.SPEAKING
        return self._interrupt() if self.rules.interrupt_response else []

    def pause_began(self) -> list[TurnAction]:
        self._hearing = _Hearing.PAUSED
        wanted = self.rules.speculate and self.rules.create_response
        if not wanted or self._replying is not _Replying.NOT:
            return []
        self._replying = _Replying.AHEAD
        return [TurnAction.SPECULATE]

    def speech_resumed(self) -> list[TurnAction]:
        self._hearing = _Hearing.SPEAKING
        return self._withdraw()

    def speech_stopped(self, *, as_guessed: bool) -> list[TurnAction]:
        """The turn is over. `as_guessed`: the reply ahead was made for just this prompt."""
        self._hearing = _Hearing.SILENT
        if not self.rules.create_response:
            return self._withdraw()
        if self._replying is _Replying.AHEAD and as_guessed:
            self._replying = _Replying.ALOUD
            return [TurnAction.PROMOTE]
        if self._replying is _Replying.ALOUD and not self.rules.interrupt_response:
            self._owed = True
            return []
        return [*self._withdraw(), *self._interrupt(), *self._answer()]

    def input_taken(self) -> list[TurnAction]:
        """The client committed or cleared the input: a turn, if open, ends with no reply due."""
        self._hearing = _Hearing.SILENT
        return self._withdraw()

    def requested(self) -> list[TurnAction]:
        """The client asks for a reply; ask `replying` first, since there can be but one aloud."""
        return [*self._withdraw(), *self._answer()]

    def cancelled(self) -> list[TurnAction]:
        """The client cancels the reply aloud, and with it what was owed behind it."""
        self._owed = False
        return self._interrupt()

    def finished(self) -> list[TurnAction]:
        """The reply has come to its end; one ahead only by failing, so the turn may try again."""
        self._replying = _Replying.NOT
        return self._answer() if self._owed else []

    def _answer(self) -> list[TurnAction]:
        self._owed = False  # this answer covers it
        self._replying = _Replying.ALOUD
        return [TurnAction.ANSWER]

    def _withdraw(self) -> list[TurnAction]:
        if self._replying is not _Replying.AHEAD:
            return []
        self._replying = _Replying.NOT
        return [TurnAction.WITHDRAW]

    def _interrupt(self) -> list[TurnAction]:
        if self._replying is not _Replying.ALOUD:
            return []
        self._replying = _Replying.NOT
        return [TurnAction.INTERRUPT]
