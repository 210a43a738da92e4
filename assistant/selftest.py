"""A check of a real installation: the model answers a spoken sentence in every mode it has.

The sentence is the work of flite and its voice slt, both free for any use:

    flite -voice slt -t "What is the capital of France?" -o selftest.wav
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from assistant.ask import answer
from assistant.engines.engine import Engine, Finished
from assistant.errors import EngineError
from assistant.prompt import AudioPart, Message, Part, Prompt, TextPart
from audio_io.files import read_audio

SENTENCE = "What is the capital of France?"
_RECORDING = Path(__file__).with_name("selftest.flac")

Mode = Literal["voice_chat", "audio_analysis", "text"]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing to ask."""

    mode: Mode
    title: str
    parts: tuple[Part, ...]


def checks() -> tuple[Check, ...]:
    """What is asked, in order."""
    spoken = AudioPart.of(read_audio(_RECORDING))
    about = "What does the person say?"
    written = "What is the capital of Italy?"
    return (
        Check("voice_chat", f"Spoken: {SENTENCE}", (spoken,)),
        Check("audio_analysis", f"The same, and written: {about}", (spoken, TextPart(about))),
        Check("text", f"Written: {written}", (TextPart(written),)),
    )


async def selftest(
    engine: Engine,
    write: Callable[[str], None],
    now_s: Callable[[], float] = time.perf_counter,
) -> None:
    """Load `engine`, ask it, and close it; what comes of it goes to `write` as it comes.

    `now_s` tells the time in s. Raises EngineError where it can't be loaded, or doesn't answer.
    """
    begun_s = now_s()
    try:
        await engine.start()
        info = engine.info
        write(
            f"{info.model} on {info.device}, {info.context_tokens} tokens of context; "
            f"loaded in {now_s() - begun_s:.1f} s\n"
        )
        for check in checks():
            if check.mode in info.modes:
                await _ask(engine, check, write, now_s)
    finally:
        await engine.close()


async def _ask(
    engine: Engine, check: Check, write: Callable[[str], None], now_s: Callable[[], float]
) -> None:
    write(f"\n{check.title}\n")
    asked_s = now_s()
    first_s: float | None = None

    def take(text: str) -> None:
        nonlocal first_s
        first_s = first_s or now_s()
        write(text)

    prompt = Prompt((Message("selftest", "user", check.parts),))
    session = await engine.open_session()
    try:
        finished = (await answer(engine, session, prompt, take)).finished
    finally:
        await session.close()
    if first_s is None:
        raise EngineError("The model answered nothing.")
    write(f"\n({_speed(finished, asked_s, first_s, now_s())})\n")


def _speed(finished: Finished, asked_s: float, first_s: float, end_s: float) -> str:
    usage = finished.usage
    rate = ""
    # The first token belongs to the prompt's time.
    if usage.output_tokens > 1 and end_s > first_s:
        rate = f", then {(usage.output_tokens - 1) / (end_s - first_s):.1f} tokens/s"
    return (
        f"first token after {first_s - asked_s:.3f} s{rate}; "
        f"{usage.input.total} tokens in, {usage.output_tokens} out"
    )
