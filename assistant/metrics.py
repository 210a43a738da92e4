"""Counters for `/metrics`, in Prometheus' form."""

from __future__ import annotations

from typing import Any

from prometheus_client import Counter, Gauge, Histogram

SESSIONS = Gauge("assistant_sessions", "Conversations that are open")
REFUSED = Counter(
    "assistant_sessions_refused",
    "Conversations refused since max_sessions were open, or the server was leaving",
)
TURNS = Counter(
    "assistant_turns",
    "Turns taken into a conversation: heard to their end, committed, or timed out in silence",
)
REPLIES = Counter("assistant_replies", "Replies, by how they ended", ["status"])
ERRORS = Counter("assistant_client_errors", "Errors told to clients", ["code"])
HOLD = Histogram(
    "assistant_turn_hold_seconds",
    "From the end of speech to the end of the turn",
    buckets=(0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1, 1.5, 2, 5),
)
FIRST_TOKEN = Histogram(
    "assistant_first_token_seconds",
    "From the end of the turn, or the client's request, to the first token, by speculation: hit, "
    "miss or none",
    ["speculation"],
    buckets=(0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10),
)


def sent(event: dict[str, Any]) -> None:
    """Count a server event that tells of something worth counting."""
    match event["type"]:
        case "input_audio_buffer.committed":
            TURNS.inc()
        case "response.done":
            REPLIES.labels(event["response"]["status"]).inc()
            _time(event["response"]["metadata"] or {})
        case "error":
            ERRORS.labels(event["error"]["code"]).inc()


def _time(metadata: dict[str, str]) -> None:
    match metadata:
        case {"latency.speech_end_ms": speech_end_ms, "latency.turn_end_ms": turn_end_ms}:
            HOLD.observe((int(turn_end_ms) - int(speech_end_ms)) / 1000)
    match metadata:
        case {"latency.first_token_ms": first_ms, "latency.speculation": speculation}:
            FIRST_TOKEN.labels(speculation).observe(int(first_ms) / 1000)
