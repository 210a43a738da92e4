"""One response as clients see it, from `response.created` to `response.done`. Pure.

    response.created
      response.output_item.added  conversation.item.added  response.content_part.added
        response.output_text.delta ...                      (all of this with the first text)
      response.output_text.done  response.content_part.done
      response.output_item.done  conversation.item.done
    response.done

A response that ends before its first text has no item at all.
"""

from __future__ import annotations

from typing import Any, Literal

from assistant.conversation import Message, TextPart
from assistant.engines.engine import PrefillReport, Text, TokenCount, Usage
from assistant.realtime.items import item_from_message

Event = dict[str, Any]
"""A server event, still without its `event_id`."""
Status = Literal["completed", "cancelled", "failed", "incomplete"]


class Response:
    """Builds the events of one response, and the message that stays of it."""

    def __init__(
        self,
        *,
        id: str,
        item_id: str,
        conversation_id: str,
        max_output_tokens: int | None,
        metadata: dict[str, str] | None,
    ) -> None:
        self.id = id
        self._item_id = item_id
        self._conversation_id = conversation_id
        self._max_output_tokens = max_output_tokens
        self._metadata = metadata
        self._texts: list[str] = []
        self._ids: list[int] = []
        self._report: PrefillReport | None = None

    @property
    def has_item(self) -> bool:
        """Whether any text has been shown."""
        return bool(self._texts)

    @property
    def message(self) -> Message:
        """What has been shown so far, as it stands in the conversation."""
        text = TextPart("".join(self._texts), tuple(self._ids))
        return Message(self._item_id, "assistant", (text,) if self._texts else ())

    def created(self) -> Event:
        return {"type": "response.created", "response": self._object("in_progress", None, None)}

    def started(self, report: PrefillReport) -> None:
        """The prompt is in: what it cost is known from here on."""
        self._report = report

    def opened(self, previous_item_id: str | None) -> list[Event]:
        """The item comes into being, behind the one named."""
        item = item_from_message(self.message, status="in_progress")
        return [
            self._event("response.output_item.added", output_index=0, item=item),
            {
                "type": "conversation.item.added",
                "previous_item_id": previous_item_id,
                "item": item,
            },
            self._part_event("response.content_part.added", part={"type": "text", "text": ""}),
        ]

    def text(self, piece: Text) -> Event:
        """More of the reply; `opened` must have come before."""
        self._texts.append(piece.text)
        self._ids.extend(piece.ids)
        return self._part_event("response.output_text.delta", delta=piece.text)

    def done(
        self,
        previous_item_id: str | None,
        status: Status,
        *,
        reason: str | None = None,
        error: str | None = None,
        usage: Usage | None = None,
        metadata: dict[str, str] | None = None,
    ) -> list[Event]:
        """The end, whatever it was. `usage` as the engine counted it, if it came to that;
        `metadata` comes to the client's own."""
        self._metadata = {**(self._metadata or {}), **(metadata or {})} or None
        details: dict[str, Any] | None = None
        if status != "completed":
            details = {"type": status}
        if details and reason:
            details["reason"] = reason
        if details and error:
            details["error"] = {"type": "server_error", "code": "model_error", "message": error}
        closing: list[Event] = []
        if self.has_item:
            text = "".join(self._texts)
            item = self._item(status)
            closing = [
                self._part_event("response.output_text.done", text=text),
                self._part_event("response.content_part.done", part={"type": "text", "text": text}),
                self._event("response.output_item.done", output_index=0, item=item),
                {
                    "type": "conversation.item.done",
                    "previous_item_id": previous_item_id,
                    "item": item,
                },
            ]
        response = self._object(status, details, usage or self.usage_so_far)
        return [*closing, {"type": "response.done", "response": response}]

    def _item(self, status: Status) -> Event:
        complete = "completed" if status == "completed" else "incomplete"
        return item_from_message(self.message, status=complete)

    @property
    def usage_so_far(self) -> Usage:
        """What it has cost up to here; nothing before the prompt was in."""
        report = self._report or PrefillReport(TokenCount(), TokenCount())
        return Usage(report.prompt, report.reused, len(self._ids))

    def _object(
        self, status: Status | Literal["in_progress"], details: Event | None, usage: Usage | None
    ) -> Event:
        return {
            "object": "realtime.response",
            "id": self.id,
            "status": status,
            "status_details": details,
            "output": [] if status == "in_progress" or not self.has_item else [self._item(status)],
            "conversation_id": self._conversation_id,
            "output_modalities": ["text"],
            "max_output_tokens": self._max_output_tokens or "inf",
            "metadata": self._metadata,
            "usage": _usage_object(usage) if usage else None,
        }

    def _event(self, type_: str, **fields: Any) -> Event:
        return {"type": type_, "response_id": self.id, **fields}

    def _part_event(self, type_: str, **fields: Any) -> Event:
        return self._event(type_, item_id=self._item_id, output_index=0, content_index=0, **fields)


def _usage_object(usage: Usage) -> Event:
    return {
        "total_tokens": usage.input.total + usage.output_tokens,
        "input_tokens": usage.input.total,
        "output_tokens": usage.output_tokens,
        "input_token_details": {
            "text_tokens": usage.input.text,
            "audio_tokens": usage.input.audio,
            "image_tokens": 0,
            "cached_tokens": usage.cached.total,
            "cached_tokens_details": {
                "text_tokens": usage.cached.text,
                "audio_tokens": usage.cached.audio,
                "image_tokens": 0,
            },
        },
        "output_token_details": {"text_tokens": usage.output_tokens, "audio_tokens": 0},
    }
