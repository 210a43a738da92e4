"""The one reply under way: started, held back or shown, and brought to its end. Pure."""

from __future__ import annotations

from collections.abc import Callable, Set
from itertools import chain, groupby
from typing import Any, assert_never

from assistant.conversation import Conversation, Prompt
from assistant.engines.engine import (
    Finished,
    ReplyEvent,
    ReplyOptions,
    Started,
    Text,
    ToolCall,
    Usage,
)
from assistant.realtime.effects import CancelReply, CommitReply, Effect, StartReply
from assistant.realtime.latency import Latency, Speculation, TurnEnd
from assistant.realtime.response import Event, Response, Status


class _Reply:
    """A reply under way."""

    def __init__(self, response: Response, prompt: Prompt, options: ReplyOptions) -> None:
        self.response = response
        self.prompt = prompt
        self.options = options
        self.latency: Latency | None = None
        """Known from when it is wanted."""
        self.held: list[ReplyEvent] | None = [] if options.speculative else None
        """What came of it while it is held back; None while it is not."""
        self.previous_item_id: str | None = None


class Responder:
    """Turns the model's reply events into server events and into a message of the conversation.

    A speculative reply is held back until `promote`, any other between `hold` and `release`. What
    of a reply is shown stays in the conversation, however it ends; the rest never was.
    """

    def __init__(
        self,
        conversation: Conversation,
        *,
        conversation_id: str,
        new_id: Callable[[str], str],
        send: Callable[[Event], Effect],
        now_ms: Callable[[], int],
    ) -> None:
        """`now_ms` is asked when replies are wanted and shown, to tell how long that took."""
        self._conversation = conversation
        self._conversation_id = conversation_id
        self._new_id = new_id
        self._send = send
        self._now_ms = now_ms
        self._reply: _Reply | None = None
        self.usage: Usage | None = None
        """What the reply that ended last has cost."""

    @property
    def id(self) -> str | None:
        """The response under way, shown or not."""
        return self._reply.response.id if self._reply else None

    def made_for(self, prompt: Prompt, options: ReplyOptions) -> bool:
        """Whether the reply under way is the one that would be started for these."""
        reply = self._reply
        return reply is not None and (reply.prompt, reply.options) == (prompt, options)

    def start(
        self,
        prompt: Prompt,
        options: ReplyOptions,
        metadata: dict[str, str] | None = None,
        turn: TurnEnd | None = None,
        speculation: Speculation = "none",
    ) -> list[Effect]:
        """Begin a reply; there must be none under way.

        `turn`: what it answers, if just spoken; `speculation`: what came of a reply ahead of it.
        """
        assert self._reply is None
        response = Response(
            id=self._new_id("resp"),
            item_id=self._new_id("item"),
            conversation_id=self._conversation_id,
            max_output_tokens=options.max_output_tokens,
            metadata=metadata,
        )
        self._reply = _Reply(response, prompt, options)
        start = StartReply(response.id, prompt, options)
        if options.speculative:
            return [start]
        self._reply.latency = Latency(self._now_ms, turn, speculation)
        return [start, self._announced(self._reply)]

    def promote(self, turn: TurnEnd) -> list[Effect]:
        """The speculative reply is wanted: show what it has said, and all that follows."""
        reply = self._current()
        ready = any(isinstance(event, Text) for event in reply.held or [])
        reply.latency = Latency(self._now_ms, turn, "hit" if ready else "miss")
        return [CommitReply(reply.response.id), self._announced(reply), *self.release()]

    def hold(self) -> list[Effect]:
        """Show no more of the reply until `release`; the model goes on."""
        self._current().held = []
        return []

    def release(self) -> list[Effect]:
        """Show what was held back, and all that follows."""
        reply = self._current()
        held, reply.held = reply.held or [], None
        effects: list[Effect] = []
        for event in _in_one_piece(held):
            if self._reply is reply:
                effects += self._show(reply, event)
        return effects

    def withdraw(self) -> list[Effect]:
        """The speculative reply is not wanted; nobody has seen it."""
        reply = self._current()
        self._reply = None
        return [CancelReply(reply.response.id)]

    def interrupt(self, reason: str) -> list[Effect]:
        """Stop the reply that is being shown. `reason`: turn_detected or client_cancelled."""
        reply = self._current()
        self._close(reply)
        return [CancelReply(reply.response.id), *self._ended(reply, "cancelled", reason=reason)]

    def generated(self, event: ReplyEvent) -> list[Effect]:
        """The next event of the reply under way."""
        reply = self._current()
        if reply.held is not None:
            reply.held.append(event)
            return []
        return self._show(reply, event)

    def shortened(self, dropped: Set[str]) -> Prompt:
        """The prompt that is to be answered now, without the messages with these ids."""
        reply = self._current()
        left = [message for message in reply.prompt.messages if message.id not in dropped]
        reply.prompt = Prompt(tuple(left))
        return reply.prompt

    def failed(self, error: str) -> list[Effect]:
        """The model could not go on with the reply; one that nobody knows of is just forgotten."""
        reply = self._current()
        self._close(reply)
        if not reply.latency:
            return []
        return self._ended(reply, "failed", error=error)

    def _show(self, reply: _Reply, event: ReplyEvent) -> list[Effect]:
        response = reply.response
        match event:
            case Started():
                response.started(event.report)
                return []
            case Text():
                opening: list[Event] = []
                if not response.has_item:
                    reply.previous_item_id = self._conversation.add(response.message)
                    opening = response.opened(reply.previous_item_id)
                if reply.latency:
                    reply.latency.text_shown()
                return [*map(self._send, [*opening, response.text(event)])]
            case ToolCall():
                cancel = CancelReply(response.id)
                return [cancel, *self.failed(f"The model called {event.name!r}, unasked.")]
            case Finished():
                self._close(reply)
                cut = event.reason == "length"
                return self._ended(
                    reply,
                    "incomplete" if cut else "completed",
                    reason="max_output_tokens" if cut else None,
                    usage=event.usage,
                )
            case _:
                assert_never(event)

    def _ended(self, reply: _Reply, status: Status, **how: Any) -> list[Effect]:
        self.usage = how.get("usage") or reply.response.usage_so_far
        metadata = reply.latency.metadata() if reply.latency else {}
        ending = reply.response.done(reply.previous_item_id, status, metadata=metadata, **how)
        return [*map(self._send, ending)]

    def _announced(self, reply: _Reply) -> Effect:
        return self._send(reply.response.created())

    def _current(self) -> _Reply:
        assert self._reply is not None
        return self._reply

    def _close(self, reply: _Reply) -> None:
        self._reply = None
        self._conversation.replace(reply.response.message)


def _in_one_piece(events: list[ReplyEvent]) -> list[ReplyEvent]:
    """The same, with texts that follow each other joined: they go out at once, and a client may
    have room for few events."""
    joined: list[ReplyEvent] = []
    for is_text, group in groupby(events, lambda event: isinstance(event, Text)):
        alike = list(group)
        if is_text:
            texts = [event for event in alike if isinstance(event, Text)]
            ids = tuple(chain.from_iterable(text.ids for text in texts))
            alike = [Text("".join(text.text for text in texts), ids)]
        joined += alike
    return joined
