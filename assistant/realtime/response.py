"""One response as clients see it, from `response.created` to `response.done`. Pure.

    response.created
      response.output_item.added  conversation.item.added  response.content_part.added
        response.output_text.delta ...                      (all of this with the first text)
      response.output_text.done  response.content_part.done
      response.output_item.done  conversation.item.done
                                                            (and for each call of a function)
      response.output_item.added  conversation.item.added
        response.function_call_arguments.delta  response.function_call_arguments.done
      response.output_item.done  conversation.item.done
    response.done

A response that ends before its first text or call has no item at all. One that belongs to no
conversation has no `conversation.item` events.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from dataclasses import replace
from typing import Any, Literal, assert_never

from assistant.conversation import Conversation
from assistant.engines.engine import (
    Finished,
    PrefillReport,
    ReplyEvent,
    Started,
    Text,
    TokenCount,
    ToolCall,
    Usage,
)
from assistant.prompt import FunctionCall, Message, TextPart
from assistant.realtime.items import item_from_message
from assistant.realtime.latency import Latency
from assistant.realtime.usage import response_usage

Event = dict[str, Any]
"""A server event, still without its `event_id`."""
Status = Literal["completed", "cancelled", "failed", "incomplete"]


class Response:
    """Builds the events of one response, and keeps its items in its conversation."""

    def __init__(
        self,
        *,
        id: str,
        new_id: Callable[[str], str],
        conversation: Conversation | None,
        conversation_id: str | None,
        offered: Set[str],
        max_output_tokens: int | None,
        metadata: dict[str, str] | None,
    ) -> None:
        """`conversation`: None where the response is to leave no trace in one; `offered`: names of
        the functions that may be called."""
        self.id = id
        self.latency: Latency | None = None
        """Where its time went, if that is to be told; known from when it is wanted."""
        self.usage: Usage | None = None
        """What it has cost, once it has ended."""
        self.broken = False
        """Whether it has ended though the model would go on."""
        self._new_id = new_id
        self._conversation = conversation
        self._conversation_id = conversation_id
        self._offered = offered
        self._max_output_tokens = max_output_tokens
        self._metadata = metadata and _clients_own(metadata)
        self._output: list[Event] = []
        self._open: _TextItem | None = None
        self._report: PrefillReport | None = None
        self._tokens = 0

    @property
    def ended(self) -> bool:
        """Whether `response.done` has been built."""
        return self.usage is not None

    @property
    def has_begun(self) -> bool:
        """Whether anything of it has been shown."""
        return self._open is not None or bool(self._output)

    @property
    def message(self) -> Message | None:
        """The item that is being written, as far as it has been shown."""
        return self._open.message if self._open else None

    def created(self) -> Event:
        return {"type": "response.created", "response": self._object("in_progress", None)}

    def show(self, events: Sequence[ReplyEvent]) -> list[Event]:
        """What the model has said, in order.

        Texts that follow each other go out at once: a client may have room for few events.
        """
        shown: list[Event] = []
        texts: list[Text] = []
        for event in events:
            if isinstance(event, Text):
                texts.append(event)
                continue
            shown += self._text(texts)
            texts = []
            match event:
                case Started():
                    self._report = event.report
                case ToolCall() if event.name in self._offered:
                    shown += self._call(event)
                case ToolCall():
                    self.broken = True
                    shown += self.done("failed", error=f"The model called {event.name!r}, unasked.")
                case Finished(reason="length"):
                    shown += self.done("incomplete", "max_output_tokens", usage=event.usage)
                case Finished():
                    shown += self.done("completed", usage=event.usage)
                case _:
                    assert_never(event)
            if self.ended:
                return shown
        return [*shown, *self._text(texts)]

    def done(
        self,
        status: Status,
        reason: str | None = None,
        *,
        error: str | None = None,
        usage: Usage | None = None,
    ) -> list[Event]:
        """The end, whatever it was. `usage` as the engine counted it, if it came to that."""
        closing = self._closed("completed" if status == "completed" else "incomplete")
        self.usage = usage or self._usage_so_far
        if self.latency:
            self._metadata = (self._metadata or {}) | self.latency.metadata()
        details: Event | None = {"type": status} if status != "completed" else None
        if details and reason:
            details["reason"] = reason
        if details and error:
            details["error"] = {"type": "server_error", "code": "model_error", "message": error}
        return [*closing, {"type": "response.done", "response": self._object(status, details)}]

    def _text(self, texts: Sequence[Text]) -> list[Event]:
        if not texts:
            return []
        # Where ids aren't known, behind servers, a piece is about a token.
        self._made(sum(len(text.ids) or 1 for text in texts))
        opening = [] if self._open else self._opened()
        assert self._open is not None
        self._open.pieces += (TextPart(text.text, text.ids) for text in texts)
        delta = "".join(text.text for text in texts)
        return [*opening, self._part_event("response.output_text.delta", delta=delta)]

    def _call(self, call: ToolCall) -> list[Event]:
        """The model wants a function called; arguments come in one piece."""
        self._made(len(call.ids) or 1)
        closing = self._closed("completed")
        part = FunctionCall(call.call_id, call.name, call.arguments, call.ids)
        message = Message(self._new_id("item"), "assistant", (part,))
        if self._conversation is not None:
            self._conversation.add(message)
        item = item_from_message(message)
        begun = {**item, "status": "in_progress", "arguments": ""}
        arguments = {
            "response_id": self.id,
            "item_id": message.id,
            "output_index": len(self._output),
            "call_id": call.call_id,
        }
        kind = "response.function_call_arguments"
        events = [
            *closing,
            *self._item_events("added", begun),
            {"type": f"{kind}.delta", **arguments, "delta": call.arguments},
            {"type": f"{kind}.done", **arguments, "name": call.name, "arguments": call.arguments},
            *self._item_events("done", item),
        ]
        self._output.append(item)
        return events

    def _made(self, tokens: int) -> None:
        self._tokens += tokens
        if self.latency:
            self.latency.token_shown()

    def _opened(self) -> list[Event]:
        self._open = _TextItem(self._new_id("item"))
        item = item_from_message(self._open.message, status="in_progress")
        if self._conversation is not None:
            self._conversation.add(self._open.message)
        return [
            *self._item_events("added", item),
            self._part_event("response.content_part.added", part={"type": "text", "text": ""}),
        ]

    def _closed(self, status: Literal["completed", "incomplete"]) -> list[Event]:
        """The end of the item that is being written, if there is one."""
        if self._open is None:
            return []
        message, text = self._open.message, self._open.text
        message = replace(message, whole=status == "completed")
        item = item_from_message(message)
        if self._conversation is not None:
            self._conversation.replace(message)
            self._conversation.said.remember(message.id, self._open.pieces)
        events = [
            self._part_event("response.output_text.done", text=text),
            self._part_event("response.content_part.done", part={"type": "text", "text": text}),
            *self._item_events("done", item),
        ]
        self._output.append(item)
        self._open = None
        return events

    @property
    def _usage_so_far(self) -> Usage:
        """What it has cost up to here; nothing before the prompt was in."""
        report = self._report or PrefillReport(TokenCount(), TokenCount())
        return Usage(report.prompt, report.reused, self._tokens)

    def _object(self, status: Status | Literal["in_progress"], details: Event | None) -> Event:
        return {
            "object": "realtime.response",
            "id": self.id,
            "status": status,
            "status_details": details,
            "output": [*self._output],
            "conversation_id": self._conversation_id,
            "output_modalities": ["text"],
            "max_output_tokens": self._max_output_tokens or "inf",
            "metadata": self._metadata,
            "usage": response_usage(self.usage) if self.usage else None,
        }

    def _item_events(self, step: Literal["added", "done"], item: Event) -> list[Event]:
        """What the response tells of its next item, and then the conversation."""
        events: list[Event] = [
            {
                "type": f"response.output_item.{step}",
                "response_id": self.id,
                "output_index": len(self._output),
                "item": item,
            }
        ]
        if self._conversation is not None:
            events.append(
                {
                    "type": f"conversation.item.{step}",
                    "previous_item_id": self._conversation.previous_id(item["id"]),
                    "item": item,
                }
            )
        return events

    def _part_event(self, type_: str, **fields: Any) -> Event:
        assert self._open is not None
        return {
            "type": type_,
            "response_id": self.id,
            "item_id": self._open.id,
            "output_index": len(self._output),
            "content_index": 0,
            **fields,
        }


class _TextItem:
    """A message of the model's while it is being written."""

    def __init__(self, id: str) -> None:
        self.id = id
        self.pieces: list[TextPart] = []

    @property
    def text(self) -> str:
        return "".join(piece.text for piece in self.pieces)

    @property
    def message(self) -> Message:
        ids = tuple(id_ for piece in self.pieces for id_ in piece.token_ids)
        return Message(self.id, "assistant", (TextPart(self.text, ids),) if self.pieces else ())


def _clients_own(metadata: dict[str, str]) -> dict[str, str]:
    # A client that sends on what another response told must not seem to tell of this one.
    return {key: value for key, value in metadata.items() if not key.startswith(Latency.PREFIX)}
