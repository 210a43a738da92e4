"""What `talk` shows, as one value, and how each server event changes it. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar, assert_never

Event = dict[str, Any]
"""A server event of the Realtime protocol."""
Activity = Literal["connecting", "listening", "hearing", "thinking", "replying"]
ReplyStatus = Literal["replying", "completed", "interrupted", "stopped", "incomplete", "failed"]


@dataclass(frozen=True, slots=True)
class Speech:
    """Something that the person says."""

    id: str
    start_ms: int
    duration_ms: int | None = None
    """None while it lasts."""

    @property
    def is_open(self) -> bool:
        """Whether it may still change."""
        return self.duration_ms is None


@dataclass(frozen=True, slots=True)
class Reply:
    """Something that the assistant says."""

    id: str
    text: str = ""
    status: ReplyStatus = "replying"
    detail: str = ""
    """What went wrong, where it failed."""

    @property
    def is_open(self) -> bool:
        """Whether it may still change."""
        return self.status == "replying"


@dataclass(frozen=True, slots=True)
class Problem:
    """A complaint of the server's, or news of the microphone; the conversation goes on."""

    id: str
    text: str
    is_open: Literal[False] = False


Turn = Speech | Reply | Problem


@dataclass(frozen=True, slots=True)
class View:
    """The conversation so far."""

    model: str | None = None
    """Its name, once the server has told it."""
    turns: tuple[Turn, ...] = ()
    """In the order in which they began."""
    level_dbfs: float | None = None
    """Of the microphone, of late; None until it has given sound: what is said before is lost."""
    lost_ms: int = 0
    """What the microphone has lost so far."""

    @property
    def activity(self) -> Activity:
        """What is going on."""
        if self.model is None or self.level_dbfs is None:
            return "connecting"
        activity: Activity = "listening"
        for turn in self.turns:
            match turn:
                case Speech(is_open=True):
                    return "hearing"
                case Reply(is_open=True):
                    activity = "replying" if turn.text else "thinking"
                case Speech() | Reply() | Problem():
                    pass
                case _:
                    assert_never(turn)
        return activity

    @property
    def answer(self) -> Reply | None:
        """The first reply that has come to its end, other than by an interruption."""
        for turn in self.turns:
            if isinstance(turn, Reply) and turn.status not in ("replying", "interrupted"):
                return turn
        return None


def reduce(view: View, event: Event) -> View:
    """The view after a server event; the same one where the event shows in nothing."""
    match event:
        case {"type": "session.created", "session": {"model": str(model)}}:
            return replace(view, model=printable(model))
        case {
            "type": "input_audio_buffer.speech_started",
            "item_id": str(id),
            "audio_start_ms": int(start_ms),
        }:
            return _with(view, Speech(id, start_ms))
        case {
            "type": "input_audio_buffer.speech_stopped",
            "item_id": str(id),
            "audio_end_ms": int(end_ms),
        } if speech := _find(view, Speech, id):
            return _with(view, replace(speech, duration_ms=end_ms - speech.start_ms))
        case {"type": "response.created", "response": {"id": str(id)}}:
            return _with(view, Reply(id))
        case {
            "type": "response.output_text.delta",
            "response_id": str(id),
            "delta": str(delta),
        } if reply := _find(view, Reply, id):
            return _with(view, replace(reply, text=reply.text + printable(delta)))
        case {"type": "response.done", "response": {"id": str(id)} as response} if reply := _find(
            view, Reply, id
        ):
            return _with(view, _ended(reply, response))
        case {"type": "error", "event_id": str(id), "error": {"message": str(message)}}:
            return _with(view, Problem(id, printable(message)))
        case _:
            return view


def noted(view: View, text: str) -> View:
    """The view with something to be told that comes from no event."""
    return _with(view, Problem(f"note_{len(view.turns)}", text))


def printable(text: str) -> str:
    """`text` without control characters, by which it could take over a terminal."""
    return _CONTROL.sub("", text.replace("\t", " "))


# C0 but for the line feed, DEL, C1.
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")


def _ended(reply: Reply, response: dict[str, Any]) -> Reply:
    match response:
        case {"status": "cancelled", "status_details": {"reason": "turn_detected"}}:
            return replace(reply, status="interrupted")
        case {"status": "completed" | "incomplete" as status}:
            return replace(reply, status=status)
        case {"status": "failed", "status_details": {"error": {"message": str(message)}}}:
            return replace(reply, status="failed", detail=printable(message))
        case {"status": "failed"}:
            return replace(reply, status="failed")
        case _:
            return replace(reply, status="stopped")


_AnyTurn = TypeVar("_AnyTurn", bound=Turn)


def _find(view: View, kind: type[_AnyTurn], id: str) -> _AnyTurn | None:
    # The newest first: that is nearly always the one.
    for turn in reversed(view.turns):
        if isinstance(turn, kind) and turn.id == id:
            return turn
    return None


def _with(view: View, turn: Turn) -> View:
    """`turn` in the place of the one with its id, or behind all others."""
    turns = list(view.turns)
    for index in reversed(range(len(turns))):
        if turns[index].id == turn.id:
            turns[index] = turn
            return replace(view, turns=tuple(turns))
    return replace(view, turns=(*turns, turn))
