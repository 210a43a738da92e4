"""Test vocabulary: what a client may rely on, whatever happens; watched event by event."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.protocol import valid

Event = dict[str, Any]


@dataclass
class OpenResponse:
    """A response between `response.created` and `response.done`."""

    in_conversation: bool
    item_id: str | None = None
    """The item that is open."""
    deltas: str = ""
    """Of that item."""
    output: list[Event] = field(default_factory=list)
    """The items that are done."""

    @property
    def text(self) -> str:
        """All words so far."""
        texts = [c["text"] for item in self.output for c in item.get("content", [])]
        return "".join(texts) + self.deltas


class Watch:
    """Fails where an event can't be, after those before it."""

    def __init__(self) -> None:
        self.responses: dict[str, OpenResponse] = {}
        """Those that are open."""
        self.done: dict[str, Event] = {}
        """Those that are done."""
        self.items: dict[str, str] = {}
        """added or done: those that are in the conversation."""
        self.transcripts: dict[str, str] = {}
        """What has been transcribed of items, while that goes on."""
        self._event_ids: set[str] = set()
        self._deleted: set[str] = set()

    @property
    def main(self) -> set[str]:
        """The conversation's own response, while there is one."""
        return {id for id, response in self.responses.items() if response.in_conversation}

    def sees(self, event: Event) -> None:
        """The next event."""
        valid(event)
        assert event["event_id"] not in self._event_ids
        self._event_ids.add(event["event_id"])
        assert event.get("item_id") not in self._deleted, "an event for a dead item"
        previous_id = event.get("previous_item_id")
        assert previous_id is None or previous_id in self.items
        kind = event["type"]
        if kind == "response.created":
            self._created(event["response"])
        elif kind.startswith("response."):
            id = event.get("response_id") or event["response"]["id"]
            assert id in self.responses, "an event for a response that is over, or never began"
            self._response_event(id, self.responses[id], event)
        elif kind.startswith("conversation.item.input_audio_transcription."):
            self._transcription_event(kind.rpartition(".")[2], event)
        elif kind.startswith("conversation.item."):
            self._item_event(kind.rpartition(".")[2], event)

    def _created(self, response: Event) -> None:
        assert response["id"] not in self.responses and response["id"] not in self.done
        assert (response["status"], response["output"]) == ("in_progress", [])
        in_conversation = response["conversation_id"] is not None
        assert not (in_conversation and self.main), "two responses in the conversation"
        self.responses[response["id"]] = OpenResponse(in_conversation)

    def _response_event(self, id: str, response: OpenResponse, event: Event) -> None:
        item_id = event.get("item_id") or event.get("item", {}).get("id")
        if "output_index" in event:
            assert event["output_index"] == len(response.output)
        match event["type"].removeprefix("response."):
            case "output_item.added":
                assert response.item_id is None and event["item"]["status"] == "in_progress"
                assert not response.in_conversation or item_id not in self.items
                response.item_id, response.deltas = item_id, ""
            case "output_text.delta" | "function_call_arguments.delta":
                assert item_id == response.item_id
                response.deltas += event["delta"]
            case "output_text.done":
                assert (item_id, event["text"]) == (response.item_id, response.deltas)
            case "function_call_arguments.done":
                assert (item_id, event["arguments"]) == (response.item_id, response.deltas)
            case "output_item.done":
                assert item_id == response.item_id
                response.item_id, response.deltas = None, ""
                response.output.append(event["item"])
            case "done":
                assert response.item_id is None
                assert event["response"]["output"] == response.output
                assert event["response"]["usage"] is not None
                if response.in_conversation:
                    unfinished = {id for id, state in self.items.items() if state == "added"}
                    assert not unfinished
                self.done[id] = event["response"]
                del self.responses[id]

    def _item_event(self, step: str, event: Event) -> None:
        id = event.get("item_id") or event["item"]["id"]
        match step:
            case "added":
                assert id not in self.items
                self._deleted.discard(id)
                self.items[id] = "added"
            case "done":
                assert self.items[id] == "added"
                self.items[id] = "done"
            case "deleted":
                assert self.items.pop(id) == "done"
                self.transcripts.pop(id, None)
                self._deleted.add(id)
            case "retrieved" | "truncated":
                assert id in self.items

    def _transcription_event(self, step: str, event: Event) -> None:
        id = event["item_id"]
        assert self.items[id] == "done"
        match step:
            case "delta":
                self.transcripts[id] = self.transcripts.get(id, "") + event["delta"]
            case "completed":
                assert self.transcripts.pop(id, "") == event["transcript"]
            case "failed":
                self.transcripts.pop(id, None)
