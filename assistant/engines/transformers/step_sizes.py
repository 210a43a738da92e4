"""The sizes that decode steps are rounded up to, each of which a GPU records. Pure."""

from __future__ import annotations

BATCHES = (1, 2, 4, 8, 16, 32, 64)
"""Replies that take a step together."""
SHORTEST = 1024


def lengths(capacity: int) -> list[int]:
    """What the longest slot's length is rounded up to: each four times the one before."""
    rounded, length = [], SHORTEST
    while length < capacity:
        rounded.append(length)
        length *= 4
    return [*rounded, capacity]


def recordings(capacity: int) -> int:
    """How many there are."""
    return len(BATCHES) * len(lengths(capacity))
