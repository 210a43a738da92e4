"""What was said: messages with their audio and text parts, and the prompt they make. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True)
class TextPart:
    """Text of any role."""

    text: str
    token_ids: tuple[int, ...] = ()
    """For a reply, the ids it was sampled as, so that no engine has to tokenise it again.
    Opaque outside the engine; empty where unknown."""


@dataclass(frozen=True, slots=True)
class AudioPart:
    """At most 30.0 s of a user's audio. Equal when the digests are equal."""

    digest: str
    """Hash of the samples: what engines know an audio by, so that each is encoded once."""
    samples: NDArray[np.int16] = field(compare=False, repr=False)
    """int16 (n,), 16 kHz mono."""

    @classmethod
    def of(cls, samples: NDArray[np.int16]) -> AudioPart:
        """The part that holds `samples` (int16 (n,), 16 kHz mono)."""
        return cls(hashlib.blake2b(samples.tobytes(), digest_size=16).hexdigest(), samples)


Part = TextPart | AudioPart


@dataclass(frozen=True, slots=True)
class Message:
    """One entry of a conversation; edits replace it by another with the same id."""

    id: str
    role: Role
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Prompt:
    """All that a reply is to be based on, declared whole every time.

    The model session works out for itself what of it is new to it (`engines/engine.py`).
    """

    messages: tuple[Message, ...]
