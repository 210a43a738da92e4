"""Questions about recordings, answered as the answers are decoded."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, assert_never

from assistant.engines.engine import (
    Engine,
    Finished,
    ModelSession,
    ReplyOptions,
    Started,
    Text,
    ToolCall,
)
from assistant.errors import EngineError
from assistant.prompt import AudioPart, Message, Part, Prompt, TextPart
from assistant.tasks import beside
from assistant.view import printable
from audio_io.parts import in_parts
from audio_io.pcm import SAMPLE_RATE_HZ
from audio_io.sources import Recording, SourceLimits, read_source


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model said, and what that took."""

    model: str
    part: TextPart
    finished: Finished

    def as_json(self) -> dict[str, Any]:
        """For programs: text, usage in tokens, timings in ms."""
        usage, timings = self.finished.usage, self.finished.timings
        return {
            "model": self.model,
            "text": self.part.text,
            "finish_reason": self.finished.reason,
            "usage": {
                "input_tokens": usage.input.total,
                "input_token_details": {
                    "text_tokens": usage.input.text,
                    "audio_tokens": usage.input.audio,
                    "cached_tokens": usage.cached.total,
                },
                "output_tokens": usage.output_tokens,
            },
            "timings": {
                "prefill_ms": round(timings.prefill_ms, 1),
                "first_token_ms": round(timings.first_token_ms, 1),
                "total_ms": round(timings.total_ms, 1),
            },
        }


async def ask(
    engine: Engine,
    sources: Sequence[str],
    question: str | None = None,
    *,
    write: Callable[[str], None],
    limits: SourceLimits,
    instructions: str = "",
    follow_ups: AsyncIterator[str] | None = None,
) -> AsyncGenerator[Answer]:
    """Let `engine` answer what is said in `sources`, or `question` about it, if that isn't blank.

    Then, in the same conversation, each of the `follow_ups`. Answers go to `write` in pieces,
    without control characters. Starts `engine` and closes it, but reads the sources first: loading
    a model may take minutes.

    Raises AudioFormatError, EngineError.
    """
    recordings = [await beside(partial(read_source, source, limits)) for source in sources]
    try:
        await engine.start()
        session = await engine.open_session()
        try:
            parts = list(_parts(recordings, engine.info.max_audio_s))
            if question and question.strip():
                parts.append(TextPart(question))
            said = [Message("question", "user", tuple(parts))]
            if instructions:
                said.insert(0, Message("instructions", "system", (TextPart(instructions),)))
            await _check_room(engine, session, Prompt(tuple(said)), recordings)
            yield (given := await answer(engine, session, Prompt(tuple(said)), write))
            async for number, follow_up in _numbered(follow_ups):
                said += [
                    Message(f"answer_{number}", "assistant", (given.part,)),
                    Message(f"question_{number}", "user", (TextPart(follow_up),)),
                ]
                yield (given := await answer(engine, session, Prompt(tuple(said)), write))
        finally:
            await session.close()
    finally:
        await engine.close()


async def answer(
    engine: Engine,
    session: ModelSession,
    prompt: Prompt,
    write: Callable[[str], None],
    options: ReplyOptions = ReplyOptions(),  # noqa: B008 (it is frozen)
) -> Answer:
    """Let `engine`, which has started, answer `prompt` in its `session`.

    The answer goes to `write` in pieces, without control characters. Raises EngineError.
    """
    texts: list[Text] = []
    reply = session.reply(prompt, options)
    try:
        async for event in reply:
            match event:
                case Started():
                    pass
                case Text():
                    texts.append(event)
                    write(printable(event.text))
                case ToolCall():
                    raise EngineError(f"The model called {event.name!r}, unasked.")
                case Finished():
                    ids = tuple(id_ for text in texts for id_ in text.ids)
                    said = TextPart("".join(text.text for text in texts), ids)
                    return Answer(engine.info.model, said, event)
                case _:
                    assert_never(event)
        raise EngineError("The reply broke off.")
    finally:
        await reply.cancel()


def _parts(recordings: Sequence[Recording], max_audio_s: float) -> Iterator[Part]:
    """The sound in order; where there is more than one piece, each is told what it is."""
    for recording in recordings:
        pieces = list(in_parts(recording.samples, max_audio_s))
        for start_s, samples in pieces:
            where = f" from {_clock(start_s)}" if len(pieces) > 1 else ""
            if where or len(recordings) > 1:
                yield TextPart(f"{recording.name}{where}:")
            yield AudioPart.of(samples)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02}"


async def _check_room(
    engine: Engine, session: ModelSession, prompt: Prompt, recordings: Sequence[Recording]
) -> None:
    taken, context = await session.count(prompt), engine.info.context_tokens
    if taken.total >= context:
        sound_s = sum(len(recording.samples) for recording in recordings) / SAMPLE_RATE_HZ
        raise EngineError(
            f"That is too long for {engine.info.model}: {sound_s:.0f} s of sound take "
            f"{taken.audio} tokens and the text {taken.text}, and it has room for {context}, "
            "the answer among them."
        )


async def _numbered(lines: AsyncIterator[str] | None) -> AsyncIterator[tuple[int, str]]:
    if lines is None:
        return
    number = 0
    async for line in lines:
        if line.strip():
            number += 1
            yield number, line.strip()
