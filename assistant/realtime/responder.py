"""The conversation's one reply under way: started, held back or shown, and ended. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from dataclasses import replace

from assistant.conversation import Conversation
from assistant.engines.engine import ReplyEvent, ReplyOptions, Text, ToolCall, Usage
from assistant.prompt import Message, Prompt
from assistant.realtime.effects import CancelReply, CommitReply, Effect, StartReply
from assistant.realtime.latency import Latency, Speculation, TurnEnd
from assistant.realtime.prompting import offered_in
from assistant.realtime.response import Event, Response


class _Reply:
    """A reply under way."""

    def __init__(self, response: Response, prompt: Prompt, options: ReplyOptions) -> None:
        self.response = response
        self.prompt = prompt
        self.options = options
        self.held: list[ReplyEvent] | None = [] if options.speculative else None
        """What came of it while it is held back; None while it is not."""


class Responder:
    """Turns the model's reply events into server events and into items of the conversation.

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

    @property
    def message(self) -> Message | None:
        """The item that is being written, as far as it has been shown."""
        return self._reply.response.message if self._reply else None

    @property
    def has_begun(self) -> bool:
        """Whether anything of it has been shown."""
        return self._reply is not None and self._reply.response.has_begun

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
            new_id=self._new_id,
            conversation=self._conversation,
            conversation_id=self._conversation_id,
            offered=offered_in(prompt),
            max_output_tokens=options.max_output_tokens,
            metadata=metadata,
        )
        self._reply = _Reply(response, prompt, options)
        start = StartReply(response.id, prompt, options)
        if options.speculative:
            return [start]
        response.latency = Latency(self._now_ms, turn, speculation)
        return [start, self._send(response.created())]

    def promote(self, turn: TurnEnd) -> list[Effect]:
        """The speculative reply is wanted: show what it has said, and all that follows."""
        reply = self._current()
        ready = any(isinstance(event, Text | ToolCall) for event in reply.held or [])
        reply.response.latency = Latency(self._now_ms, turn, "hit" if ready else "miss")
        announced = self._send(reply.response.created())
        return [CommitReply(reply.response.id), announced, *self.release()]

    def hold(self) -> list[Effect]:
        """Show no more of the reply until `release`; the model goes on."""
        self._current().held = []
        return []

    def release(self) -> list[Effect]:
        """Show what was held back, and all that follows."""
        reply = self._current()
        held, reply.held = reply.held or [], None
        return self._show(reply, held)

    def withdraw(self) -> list[Effect]:
        """The speculative reply is not wanted; nobody has seen it."""
        reply = self._current()
        self._reply = None
        return [CancelReply(reply.response.id)]

    def interrupt(self, reason: str) -> list[Effect]:
        """Stop the reply that is being shown. `reason`: turn_detected or client_cancelled."""
        reply = self._current()
        cancelled = reply.response.done("cancelled", reason)
        self._end(reply)
        return [CancelReply(reply.response.id), *map(self._send, cancelled)]

    def generated(self, event: ReplyEvent) -> list[Effect]:
        """The next event of the reply under way."""
        reply = self._current()
        if reply.held is not None:
            reply.held.append(event)
            return []
        return self._show(reply, [event])

    def shortened(self, dropped: Set[str]) -> Prompt:
        """The prompt that is to be answered now, without the messages with these ids."""
        reply = self._current()
        left = [message for message in reply.prompt.messages if message.id not in dropped]
        reply.prompt = replace(reply.prompt, messages=tuple(left))
        return reply.prompt

    def failed(self, error: str) -> list[Effect]:
        """The model could not go on with the reply; one that nobody knows of is just forgotten."""
        reply = self._current()
        if not reply.response.latency:
            self._reply = None
            return []
        failed = reply.response.done("failed", error=error)
        self._end(reply)
        return [*map(self._send, failed)]

    def _show(self, reply: _Reply, events: Sequence[ReplyEvent]) -> list[Effect]:
        shown = reply.response.show(events)
        stop = [CancelReply(reply.response.id)] if reply.response.broken else []
        if reply.response.ended:
            self._end(reply)
        return [*stop, *map(self._send, shown)]

    def _end(self, reply: _Reply) -> None:
        self.usage = reply.response.usage
        self._reply = None

    def _current(self) -> _Reply:
        assert self._reply is not None
        return self._reply
