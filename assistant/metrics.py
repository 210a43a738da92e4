"""Counters for `/metrics`, in Prometheus' form."""

from __future__ import annotations

from typing import Any

from prometheus_client import Counter, Gauge

SESSIONS = Gauge("assistant_sessions", "Conversations that are open")
REFUSED = Counter("assistant_sessions_refused", "Conversations refused at the limit")
TURNS = Counter("assistant_turns", "Turns heard to their end")
REPLIES = Counter("assistant_replies", "Replies, by how they ended", ["status"])
ERRORS = Counter("assistant_client_errors", "Errors told to clients", ["code"])


def sent(event: dict[str, Any]) -> None:
    """Count a server event that tells of something worth counting."""
    match event["type"]:
        case "input_audio_buffer.committed":
            TURNS.inc()
        case "response.done":
            REPLIES.labels(event["response"]["status"]).inc()
        case "error":
            ERRORS.labels(event["error"]["code"]).inc()
