"""Words from speech by pocketsphinx: closed requests, and a rough transcript of anything else.

The only code that imports pocketsphinx. It holds Python's global lock while it works, for seconds
on end, so it lives in a process of its own: `python -m assistant.engines.embedded.recognizer`
reads jobs on its standard input and writes results to its standard output, and `words.py` is the
other end of both.
"""

from __future__ import annotations

import math
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import orjson
import pocketsphinx
from numpy.typing import NDArray

from assistant.engines.embedded.jobs import Job, JobKind, read_job
from assistant.engines.embedded.requests import jsgf, understand
from assistant.engines.embedded.sound import foreground_dbfs
from audio_io.pcm import SAMPLES_PER_MS, Int16Array

FEATURE_MEAN = "41.00,-5.29,-0.12,5.09,2.48,-4.07,-1.37,-1.78,-5.08,-2.05,-6.45,-1.42,1.17"
"""Mean of the acoustic features (cepstra) to begin with, as CMU Sphinx publishes it for its US
English models; the library's own default leaves the last ten at zero."""

LEVEL_DBFS = -32.0
"""Speech is brought to this level, for which FEATURE_MEAN fits: together they bring the
transcripts' word error rate on the Asterisk prompts from 34 to 27 %."""

MARGIN_LIMIT = 2.5
"""How much better than a word of the grammar any sequence of phones may fit, in nats per frame.
On the Asterisk prompts 98 % of right words stay below, and of the prompts that are no request
16 of 282 between one and four seconds; of 167 shorter ones, most of them single words like "sixth"
or "for", 52."""

CHUNK_SAMPLES = 250 * SAMPLES_PER_MS
"""Decoded between two looks at whether the result is still wanted: 10 to 50 ms of work."""


class Abandoned(Exception):
    """Nobody wants the result any more."""


@dataclass(frozen=True, slots=True)
class _Segment:
    """A word or phone of a hypothesis, and how well it fits."""

    word: str
    first_frame: int
    last_frame: int
    log_likelihood: float
    """In nats, relative to the best state of the whole acoustic model in every frame."""

    @property
    def frames(self) -> slice:
        return slice(self.first_frame, self.last_frame + 1)


class Recognizer:
    """One decoder with three searches: requests, free phones, and English by its language model.

    Takes some 0.3 s and 100 MB to make. Results don't depend on what was decoded before.
    """

    def __init__(self) -> None:
        self._decoder = pocketsphinx.Decoder(
            loglevel="FATAL",
            # Every state's likelihood in every frame, so that those of two searches compare.
            compallsen=True,
            # Silence and noises between words cost little: otherwise short words fill them in.
            wip=0.05,
            silprob=0.5,
            fillprob=0.01,
            # A second pass gains one word in a hundred and takes a third of the time.
            fwdflat=False,
        )
        self._english = self._decoder.current_search()
        self._decoder.add_jsgf_string("requests", jsgf())
        self._decoder.add_allphone_file("phones")

    def request(self, samples: Int16Array, abandoned: Callable[[], bool]) -> str | None:
        """The words of the request that `samples` (int16 (n,), 16 kHz mono) hold; None if none.

        Raises Abandoned soon after `abandoned` has become true.
        """
        segments = self._decode("requests", samples, abandoned)
        words = [segment for segment in segments if not segment.word.startswith(("<", "["))]
        text = _text(words)
        if understand(text) is None:  # also a sentence of the grammar that broke off
            return None
        free = np.zeros(1 + max(segment.last_frame for segment in segments))
        for phone in self._decode("phones", samples, abandoned):
            length = phone.last_frame - phone.first_frame + 1
            # This search alone reports its scores without pocketsphinx's shift by ten bits.
            free[phone.frames] = 1024 * phone.log_likelihood / length
        return text if max(_margin(word, free) for word in words) <= MARGIN_LIMIT else None

    def transcript(self, samples: Int16Array, abandoned: Callable[[], bool]) -> str:
        """What `samples` (int16 (n,), 16 kHz mono) say: one word in four is wrong at best.

        Raises Abandoned soon after `abandoned` has become true.
        """
        segments = self._decode(self._english, samples, abandoned)
        return _text([s for s in segments if not s.word.startswith(("<", "["))])

    def _decode(
        self, search: str, samples: Int16Array, abandoned: Callable[[], bool]
    ) -> list[_Segment]:
        decoder = self._decoder
        gain = 10 ** ((LEVEL_DBFS - foreground_dbfs(samples)) / 20)
        loud = np.clip(samples * gain, -32_768, 32_767).astype(np.int16)
        decoder.activate_search(search)
        decoder.set_cmn(FEATURE_MEAN)
        decoder.start_utt()
        try:
            for start in range(0, len(loud), CHUNK_SAMPLES):
                if abandoned():
                    raise Abandoned
                decoder.process_raw(loud[start : start + CHUNK_SAMPLES].tobytes())
        finally:
            decoder.end_utt()
        if decoder.hyp() is None:
            return []
        return [
            _Segment(
                s.word, s.start_frame, s.end_frame, math.log(max(s.ascore, sys.float_info.min))
            )
            for s in decoder.seg()
        ]


def _text(words: list[_Segment]) -> str:
    """Words without the numbers of their variants in pronunciation, as in `a(2)`."""
    return " ".join(word.word.partition("(")[0] for word in words)


def _margin(word: _Segment, free: NDArray[np.float64]) -> float:
    """By how much free phones fit better than `word`, in nats per frame."""
    phones = free[word.frames]
    return float(phones.mean() - word.log_likelihood / len(phones))


def serve(jobs: BinaryIO, results: BinaryIO) -> None:
    """Do the jobs of one stream and write their results to the other, until the first one ends."""
    recognizer = Recognizer()
    _write(results, {"ready": True})
    todo: queue.SimpleQueue[Job] = queue.SimpleQueue()
    abandoned: set[int] = set()
    threading.Thread(target=_read, args=(jobs, todo, abandoned), daemon=True).start()
    while True:
        job = todo.get()
        try:
            words = _do(job, recognizer, abandoned)
        except Abandoned:
            words = None
        except Exception as error:
            _write(results, {"id": job.id, "error": str(error)})
        else:
            _write(results, {"id": job.id, "words": words})
        # Jobs come in order: of what was abandoned, the rest came too late.
        abandoned.difference_update([id_ for id_ in tuple(abandoned) if id_ <= job.id])


def _read(jobs: BinaryIO, todo: queue.SimpleQueue[Job], abandoned: set[int]) -> None:
    while job := read_job(jobs):
        if job.kind is JobKind.ABANDON:
            abandoned.add(job.id)
        else:
            todo.put(job)
    os._exit(0)  # nobody is left to work for, whatever is being decoded


def _do(job: Job, recognizer: Recognizer, abandoned: set[int]) -> str | None:
    def unwanted() -> bool:
        return job.id in abandoned

    if job.kind is JobKind.REQUEST:
        return recognizer.request(job.samples, unwanted)
    return recognizer.transcript(job.samples, unwanted)


def _write(results: BinaryIO, result: dict[str, object]) -> None:
    results.write(orjson.dumps(result) + b"\n")
    results.flush()


if __name__ == "__main__":
    # Ctrl-C in a terminal reaches this process too, but the server decides when it ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    serve(sys.stdin.buffer, sys.stdout.buffer)
