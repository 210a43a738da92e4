"""A transcript by a model that was trained to give one, with no question in words."""

from __future__ import annotations

from collections.abc import Callable

from assistant.ask import answer
from assistant.engines.engine import Engine, ReplyOptions
from assistant.errors import EngineError
from assistant.prompt import AudioPart, Message, Prompt
from assistant.tasks import beside
from audio_io.parts import in_parts
from audio_io.sources import SourceLimits, read_source


async def transcribe(
    engine: Engine,
    source: str,
    language: str = "",
    *,
    write: Callable[[str], None],
    limits: SourceLimits,
) -> None:
    """Let `engine` write down what is said in `source`, in `language` (ISO 639-1; "": whichever).

    It goes to `write` in pieces, a line for each part that the model takes at once. Starts
    `engine` and closes it, but reads the source first. Raises AudioFormatError, EngineError.
    """
    recording = await beside(lambda: read_source(source, limits))
    try:
        await engine.start()
        if not engine.info.transcribes:
            raise EngineError(
                f"{engine.info.model} was taught no request for a transcript; ask it in words: "
                f"assistant ask {source} 'Write down what is said.'"
            )
        session = await engine.open_session()
        try:
            for _, samples in in_parts(recording.samples, engine.info.max_audio_s):
                prompt = Prompt((Message("sound", "user", (AudioPart.of(samples),)),))
                await answer(engine, session, prompt, write, ReplyOptions(transcribe=language))
                write("\n")
        finally:
            await session.close()
    finally:
        await engine.close()
