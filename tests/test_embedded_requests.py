"""Spoken requests on human recordings: what is recognised, and what must not be."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from difflib import SequenceMatcher
from random import Random

import pytest
import pytest_asyncio

from assistant.engines.embedded.requests import (
    Goodbye,
    Hello,
    Numbers,
    Request,
    Sum,
    Time,
    understand,
)
from assistant.engines.embedded.words import RecognizerProcess, installed
from audio_io.pcm import SAMPLE_RATE_HZ, Int16Array
from tests.speech import join, prompt, prompt_names, silence, transcript

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(not installed(), reason="pip install 'streaming-voice-assistant[words]'"),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def words() -> AsyncIterator[RecognizerProcess]:
    words = RecognizerProcess()
    await words.start()
    yield words
    await words.close()


def said(*names: str) -> Int16Array:
    """Prompts one after the other, as a turn is handed over: with some silence around it."""
    return join(silence(300), *map(prompt, names), silence(200))


@pytest.mark.parametrize(
    ("names", "request_"),
    [
        (["hello"], Hello()),
        (["hello-world"], Hello()),
        (["goodbye"], Goodbye()),
        (["vm-goodbye"], Goodbye()),
        (["time"], Time()),
        (["digits/7"], Numbers((7,))),
        (["digits/4", "digits/0", "digits/8"], Numbers((4, 0, 8))),
        (["digits/2", "letters/plus", "digits/3"], Sum(2, "plus", 3)),
        (["digits/12", "letters/plus", "digits/30"], Sum(12, "plus", 30)),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
async def test_requests_are_understood(
    words: RecognizerProcess, names: list[str], request_: Request
) -> None:
    heard = await words.request(said(*names))
    assert heard is not None and understand(heard) == request_


@pytest.mark.slow
async def test_fewer_than_one_in_five_prompts_is_taken_for_a_request_it_is_not(
    words: RecognizerProcess,
) -> None:
    others = [
        name
        for name in prompt_names()
        if SAMPLE_RATE_HZ <= len(prompt(name)) <= 4 * SAMPLE_RATE_HZ
        and understand(transcript(name)) is None
    ]
    # All 282 give 15; a third of them keeps the test short.
    tried = Random(0).sample(others, 100)
    wrong = {name: heard for name in tried if (heard := await words.request(said(name)))}
    print(f"taken for requests: {len(wrong)} of {len(tried)}: {wrong}")
    assert len(wrong) / len(tried) < 0.2


@pytest.mark.slow
async def test_a_transcript_has_most_words_of_a_sentence(words: RecognizerProcess) -> None:
    sentences = [
        "conf-kicked",
        "vm-nobox",
        "pls-hold-while-try",
        "vm-msgforwarded",
        "queue-thankyou",
    ]
    found = total = 0
    for name in sentences:
        said_ = re.findall(r"[a-z']+", transcript(name).lower())
        heard = (await words.transcript(said(name))).split()
        matches = SequenceMatcher(None, said_, heard).get_matching_blocks()
        found += sum(match.size for match in matches)
        total += len(said_)
    assert found / total >= 0.6


async def test_a_cancelled_job_leaves_the_next_one_alone(words: RecognizerProcess) -> None:
    long = join(*(prompt("demo-congrats") for _ in range(3)))
    job = asyncio.create_task(words.transcript(long))
    await asyncio.sleep(0)
    job.cancel()
    assert understand(await words.request(said("hello")) or "") == Hello()
