"""Whose turn it is, and so what to do about a reply. Pure.

Two things are tracked: whether the person speaks, and whether a reply is under way.

    hearing   SILENT --speech_started--> SPEAKING --pause_began--> PAUSED --speech_stopped--> SILENT
                                             ^------speech_resumed----'

    replying  NOT --Speculate--> AHEAD --Promote--> ALOUD --finished--> NOT
               ^----Withdraw-------'               |  |  ^
               |-------------Answer----------------|--'  |
               |                              Hold v     | Release
               |                                 HELD ---'
               '-------------Interrupt--- ALOUD, HELD

A reply is AHEAD while it is made on the guess that a pause ends the turn: nothing of it is shown.
It is ALOUD once its turn is over, or a client asked for it, and HELD while it waits to be known
whether a sound is an interruption.

The rules:
- a pause starts a reply ahead, unless one is under way; speech that resumes withdraws it;
- the end of a turn promotes the reply ahead where it was made for exactly this turn, else it
  starts one;
- speech during a reply aloud is in doubt, if the client wants to be interrupted: it may be a cough.
  The reply is held while the sound goes on, and released when it pauses. Only when the speech is
  confirmed, because it has lasted, is it announced, and interrupts. A sound that ends in doubt is
  no turn: nobody hears of it. But where the reply ends first there is nothing left to protect, and
  a short answer must not be lost: the sound is a turn then, like any other;
- where the client doesn't want that, a turn during a reply is answered when the reply has finished;
- what a client asks for goes before what was guessed. Where it asks in a pause, and nobody speaks
  after that, the turn's end interrupts nothing: the turn is answered when the reply has finished.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

BARGE_IN_MIN_SPEECH_MS = 500
"""Speech that is no mere "mm-hm" any more. As detected at 170 words a minute (espeak-ng), "yeah",
"right" and "uh-huh" last for 380 to 450 ms; "stop it", "hold on" and "wait a moment" for 510 to
860. LiveKit's default is the same."""


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
    HOLD = auto()
    """Show no more of the reply aloud for now; it may be made on."""
    RELEASE = auto()
    """Go on showing the reply, from where it was held."""
    INTERRUPT = auto()
    """Cancel the reply aloud or held; what was shown of it stays said."""
    ANNOUNCE = auto()
    """The person's turn is one: tell the client that it has begun."""


class _Hearing(Enum):
    SILENT = auto()
    SPEAKING = auto()
    PAUSED = auto()


class _Replying(Enum):
    NOT = auto()
    AHEAD = auto()
    ALOUD = auto()
    HELD = auto()


@dataclass(slots=True)
class TurnRules:
    """What a client may choose about turns; changeable at any time."""

    create_response: bool = True
    """Answer a turn when it ends."""
    interrupt_response: bool = True
    """Confirmed speech cancels the reply aloud."""
    speculate: bool = True
    """Use pauses for replies ahead."""


class TurnTaker:
    """Decides when to start, show and cancel replies. At most one is under way."""

    def __init__(self, rules: TurnRules) -> None:
        self.rules = rules
        self._hearing = _Hearing.SILENT
        self._replying = _Replying.NOT
        self._in_doubt = False
        self._owed = False  # a turn ended during a reply that it didn't interrupt
        self._spoken_since = False  # since a reply was asked for

    @property
    def speaking(self) -> bool:
        """Whether a turn of the person's is open, be it in a pause."""
        return self._hearing is not _Hearing.SILENT

    @property
    def in_doubt(self) -> bool:
        """Whether what is heard may yet be a cough; ask before `speech_stopped`."""
        return self._in_doubt

    @property
    def replying(self) -> bool:
        """Whether there is a reply that a client knows of."""
        return self._replying in (_Replying.ALOUD, _Replying.HELD)

    def speech_started(self) -> list[TurnAction]:
        self._hearing = _Hearing.SPEAKING
        self._spoken_since = True
        self._in_doubt = self.replying and self.rules.interrupt_response
        return self._hold() if self._in_doubt else [TurnAction.ANNOUNCE]

    def speech_confirmed(self) -> list[TurnAction]:
        """The speech has lasted for too long to be a cough."""
        if not self._in_doubt:
            return []
        self._in_doubt = False
        # The rule may have changed since the speech began.
        settled = self._interrupt() if self.rules.interrupt_response else self._release()
        return [TurnAction.ANNOUNCE, *settled]

    def pause_began(self) -> list[TurnAction]:
        self._hearing = _Hearing.PAUSED
        return self._release() if self._in_doubt else self._speculate()

    def speech_resumed(self) -> list[TurnAction]:
        self._hearing = _Hearing.SPEAKING
        self._spoken_since = True
        return self._hold() if self._in_doubt else self._withdraw()

    def speech_dismissed(self) -> list[TurnAction]:
        """The sound is over, and was in doubt to its end: there was no turn."""
        return self._end_of_hearing()

    def speech_stopped(self, *, as_guessed: bool) -> list[TurnAction]:
        """The turn is over. `as_guessed`: the reply ahead was made for just this prompt.

        Where it is in doubt, `speech_dismissed` takes this one's place.
        """
        self._hearing = _Hearing.SILENT
        if not self.rules.create_response:
            return self._withdraw()
        if self._replying is _Replying.AHEAD and as_guessed:
            self._owed = False
            self._replying = _Replying.ALOUD
            return [TurnAction.PROMOTE]
        interrupts = self.rules.interrupt_response and self._spoken_since
        if self._replying is _Replying.ALOUD and not interrupts:
            self._owed = True
            return []
        return [*self._withdraw(), *self._interrupt(), *self._answer()]

    def input_taken(self) -> list[TurnAction]:
        """The client committed or cleared the input: a turn, if open, ends with no reply due."""
        return [*self._withdraw(), *self._end_of_hearing()]

    def requested(self) -> list[TurnAction]:
        """The client asks for a reply; ask `replying` first, since there can be but one."""
        self._spoken_since = self._hearing is _Hearing.SPEAKING
        return [*self._withdraw(), *self._answer()]

    def cancelled(self) -> list[TurnAction]:
        """The client cancels the reply aloud, and with it what was owed behind it.

        What is heard meanwhile, and was in doubt for the reply's sake, is a turn then.
        """
        self._owed = False
        return [*self._interrupt(), *self._believe()]

    def finished(self) -> list[TurnAction]:
        """The reply has come to its end; one ahead only by failing, so the turn may try again."""
        self._replying = _Replying.NOT
        return self._answer() if self._owed else self._believe()

    def _believe(self) -> list[TurnAction]:
        """What is in doubt is a turn, now that there is no reply that it could disturb."""
        if not self._in_doubt:
            return []
        self._in_doubt = False
        paused = self._hearing is _Hearing.PAUSED
        return [TurnAction.ANNOUNCE, *(self._speculate() if paused else [])]

    def _speculate(self) -> list[TurnAction]:
        wanted = self.rules.speculate and self.rules.create_response
        if not wanted or self._replying is not _Replying.NOT:
            return []
        self._replying = _Replying.AHEAD
        return [TurnAction.SPECULATE]

    def _answer(self) -> list[TurnAction]:
        self._owed = False  # this answer covers it
        self._replying = _Replying.ALOUD
        return [TurnAction.ANSWER]

    def _end_of_hearing(self) -> list[TurnAction]:
        self._hearing = _Hearing.SILENT
        self._in_doubt = False
        return self._release()

    def _withdraw(self) -> list[TurnAction]:
        if self._replying is not _Replying.AHEAD:
            return []
        self._replying = _Replying.NOT
        return [TurnAction.WITHDRAW]

    def _hold(self) -> list[TurnAction]:
        if self._replying is not _Replying.ALOUD:
            return []
        self._replying = _Replying.HELD
        return [TurnAction.HOLD]

    def _release(self) -> list[TurnAction]:
        if self._replying is not _Replying.HELD:
            return []
        self._replying = _Replying.ALOUD
        return [TurnAction.RELEASE]

    def _interrupt(self) -> list[TurnAction]:
        if not self.replying:
            return []
        self._replying = _Replying.NOT
        return [TurnAction.INTERRUPT]
