"""What the engine writes to its recogniser's process, and how: a header, then the samples."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum, auto
from typing import BinaryIO

import numpy as np

from audio_io.pcm import Int16Array

_HEADER = struct.Struct("<BQI")  # kind, id, bytes of samples


class JobKind(IntEnum):
    """What to do."""

    REQUEST = auto()
    """Find one of the requests."""
    TRANSCRIPT = auto()
    """Find all words."""
    ABANDON = auto()
    """Stop the job with this id, or don't start it; it has no result then."""


@dataclass(frozen=True, slots=True)
class Job:
    """One thing to do. Results come back as lines of JSON with its `id` and `words`."""

    kind: JobKind
    id: int
    """Counts up: jobs are done in this order."""
    samples: Int16Array
    """int16 (n,), 16 kHz mono."""

    def to_bytes(self) -> bytes:
        data = self.samples.astype("<i2", copy=False).tobytes()
        return _HEADER.pack(self.kind, self.id, len(data)) + data


def read_job(stream: BinaryIO) -> Job | None:
    """The next job; None at the end of the stream."""
    header = stream.read(_HEADER.size)
    if len(header) < _HEADER.size:
        return None
    kind, id_, size = _HEADER.unpack(header)
    return Job(JobKind(kind), id_, np.frombuffer(stream.read(size), dtype="<i2"))
