"""Responses that belong to no conversation: they run beside it, several at once. Pure."""

from __future__ import annotations

from collections.abc import Callable

from assistant.engines.engine import ReplyEvent, ReplyOptions
from assistant.errors import ProtocolError
from assistant.prompt import Prompt
from assistant.realtime.effects import CancelReply, Effect, StartReply
from assistant.realtime.prompting import offered_in
from assistant.realtime.response import Event, Response

MAX_AT_ONCE = 4
"""Responses beside one conversation. Each holds a slot of the model's memory while it runs."""


class SideReplies:
    """Turns what the model says beside the conversation into server events."""

    def __init__(self, *, new_id: Callable[[str], str], send: Callable[[Event], Effect]) -> None:
        self._new_id = new_id
        self._send = send
        self._responses: dict[str, Response] = {}

    def __contains__(self, response_id: str) -> bool:
        return response_id in self._responses

    def __len__(self) -> int:
        return len(self._responses)

    def start(
        self, prompt: Prompt, options: ReplyOptions, metadata: dict[str, str] | None
    ) -> list[Effect]:
        """Begin a response. Raises ProtocolError where there are too many."""
        if len(self._responses) == MAX_AT_ONCE:
            raise ProtocolError(
                f"{MAX_AT_ONCE} responses are in progress beside the conversation, and no more "
                "may be. Wait until one is finished, or cancel it.",
                code="too_many_responses",
            )
        response = Response(
            id=self._new_id("resp"),
            new_id=self._new_id,
            conversation=None,
            conversation_id=None,
            offered=offered_in(prompt),
            max_output_tokens=options.max_output_tokens,
            metadata=metadata,
        )
        self._responses[response.id] = response
        start = StartReply(response.id, prompt, options, side=True)
        return [start, self._send(response.created())]

    def generated(self, response_id: str, event: ReplyEvent) -> list[Effect]:
        """The next event of the reply."""
        response = self._responses[response_id]
        shown = response.show([event])
        if response.ended:
            del self._responses[response_id]
        stop = [CancelReply(response_id)] if response.broken else []
        return [*stop, *map(self._send, shown)]

    def failed(self, response_id: str, error: str) -> list[Effect]:
        """The model could not go on with it."""
        return [*map(self._send, self._responses.pop(response_id).done("failed", error=error))]

    def cancel(self, response_id: str) -> list[Effect]:
        """Stop it, as the client wants."""
        cancelled = self._responses.pop(response_id).done("cancelled", "client_cancelled")
        return [CancelReply(response_id), *map(self._send, cancelled)]
