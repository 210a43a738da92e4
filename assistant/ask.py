"""One question about one audio file, answered as the answer is decoded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import assert_never

from assistant.conversation import AudioPart, Message, Part, Prompt, TextPart
from assistant.engines.engine import Engine, Finished, ReplyOptions, Started, Text, ToolCall
from assistant.errors import EngineError
from assistant.view import printable
from audio_io.errors import AudioFormatError
from audio_io.files import read_audio
from audio_io.pcm import SAMPLES_PER_MS
from audio_io.segmenter import MIN_UTTERANCE_MS


async def ask(
    engine: Engine,
    file: Path,
    question: str | None = None,
    *,
    write: Callable[[str], None],
    instructions: str = "",
) -> Finished:
    """Let `engine` answer what is said in `file`, or `question` about it, if that isn't blank.

    The answer goes to `write` in pieces, without control characters; what it cost is returned.
    Starts `engine` and closes it, but reads the file first: loading a model may take minutes.

    Raises AudioFormatError, EngineError.
    """
    audio = await asyncio.to_thread(_audio_part, file)
    parts: tuple[Part, ...] = (audio,)
    if question and question.strip():
        parts = (audio, TextPart(question))
    system = Message("instructions", "system", (TextPart(instructions),))
    user = Message("question", "user", parts)
    prompt = Prompt((system, user) if instructions else (user,))
    try:
        await engine.start()
        return await answer(engine, prompt, write)
    finally:
        await engine.close()


def _audio_part(file: Path) -> AudioPart:
    samples = read_audio(file)
    if len(samples) < MIN_UTTERANCE_MS * SAMPLES_PER_MS:
        raise AudioFormatError(
            f"{file} holds {len(samples) / SAMPLES_PER_MS:.0f} ms of sound; models take "
            f"{MIN_UTTERANCE_MS} ms or more."
        )
    return AudioPart.of(samples)


async def answer(engine: Engine, prompt: Prompt, write: Callable[[str], None]) -> Finished:
    """Let `engine`, which has started, answer `prompt` in a conversation of its own.

    The answer goes to `write` in pieces, without control characters. Raises EngineError.
    """
    session = await engine.open_session()
    try:
        async for event in session.reply(prompt, ReplyOptions()):
            match event:
                case Started():
                    pass
                case Text():
                    write(printable(event.text))
                case ToolCall():
                    raise EngineError(f"The model called {event.name!r}, unasked.")
                case Finished():
                    return event
                case _:
                    assert_never(event)
        raise EngineError("The reply broke off.")
    finally:
        # Cancels the reply too, where it hasn't come to its end.
        await session.close()
