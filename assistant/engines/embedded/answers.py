"""What the stand-in says to a prompt."""

from __future__ import annotations

import asyncio
import re
import zlib
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from typing import assert_never

from assistant.engines.embedded.hearing import Ears
from assistant.engines.embedded.requests import (
    HIGHEST_COUNT,
    Count,
    Date,
    Echo,
    Goodbye,
    Hello,
    Help,
    Numbers,
    Request,
    Sum,
    Time,
    in_words,
    understand,
)
from assistant.engines.embedded.sound import Sound
from assistant.errors import EngineError
from assistant.prompt import AudioPart, Message, Prompt, TextPart

INTRODUCTION = (
    "I'm the built-in stand-in, not a language model; "
    "`make run MODEL=Qwen/Qwen2-Audio-7B-Instruct` brings a real one."
)
ABILITIES = (
    "I describe what I hear, and understand a few requests: hello, goodbye, the time, the date, "
    "digits and sums such as two plus three, what did I say, count to twenty, and help."
)
WORDLESS = "I can't make out words: speech recognition (the extra `words`) is missing or off."
COUNT_PAUSE_S = 0.5
"""Between two numbers: slow enough to be interrupted by speaking."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One token of a reply."""

    text: str
    pause_s: float = 0.0
    """To wait before it, besides the pace of all tokens."""

    @property
    def id(self) -> int:
        """Stands for the text wherever it occurs."""
        return zlib.crc32(self.text.encode())


def pieces(text: str) -> list[Piece]:
    """`text` as tokens: words with the space before them, and what punctuation clings to them."""
    return [Piece(piece) for piece in re.findall(r"\s*\S+", text)]


async def answer(prompt: Prompt, ears: Ears, now: datetime) -> AsyncGenerator[Piece, None]:
    """The reply to `prompt`. Consume it under `aclosing`. Raises EngineError."""
    if prompt.task == "transcription":
        for piece in pieces(await _transcript(prompt, ears)):
            yield piece
        return
    if not any(message.role == "assistant" for message in prompt.messages):
        for piece in [*pieces(INTRODUCTION), Piece("\n\n")]:
            yield piece
    turns = user_turns(prompt)
    if not turns:
        for piece in pieces(ABILITIES):
            yield piece
        return
    turn, before = turns[-1], turns[:-1]
    match request := await _request(turn, ears):
        case Count():
            for piece in _counting(min(request.to, HIGHEST_COUNT)):
                yield piece
        case Echo():
            for piece in pieces(await _echo(before, ears)):
                yield piece
        case None:
            async with aclosing(_description(turn, ears)) as description:
                async for piece in description:
                    yield piece
        case _:
            for piece in pieces(_reply(request, now)):
                yield piece


def user_turns(prompt: Prompt) -> list[Message]:
    """What the user said, oldest first."""
    return [message for message in prompt.messages if message.role == "user"]


async def _transcript(prompt: Prompt, ears: Ears) -> str:
    """What is said in it: a request's words, which are certain, or else what they may be."""
    if not ears.know_words:
        raise EngineError(WORDLESS)
    audios = [audio for turn in user_turns(prompt) for audio in audios_in(turn)]
    words = [(await ears.hear(audio)).request or await ears.transcript([audio]) for audio in audios]
    return " ".join(filter(None, words))


async def _request(turn: Message, ears: Ears) -> Request | None:
    """What the turn asks for: typed, or else spoken and understood for certain."""
    audios = audios_in(turn)
    typed = _typed(turn)
    if typed and not audios:
        return understand(typed)
    if len(audios) != 1 or typed:
        return None
    heard = await ears.hear(audios[0])
    return understand(heard.request) if heard.request else None


def _reply(request: Hello | Goodbye | Time | Date | Numbers | Sum | Help, now: datetime) -> str:
    match request:
        case Hello():
            return "Hello! What can I do for you?"
        case Goodbye():
            return "Goodbye, until next time."
        case Time():
            return f"It is {now:%H:%M}."
        case Date():
            return f"Today is {now:%A}, {now.day} {now:%B} {now.year}."
        case Numbers():
            return f"You said {', '.join(map(str, request.values))}."
        case Sum():
            return f"{request.left} {request.operator} {request.right} is {request.result}."
        case Help():
            return ABILITIES
        case _:
            assert_never(request)


def _counting(to: int) -> Iterator[Piece]:
    if to == 0:
        yield from pieces("I can count from one to a hundred.")
    for number in range(1, to + 1):
        end = "." if number == to else ","
        word = in_words(number).capitalize() if number == 1 else f" {in_words(number)}"
        yield Piece(word + end, pause_s=0.0 if number == 1 else COUNT_PAUSE_S)


async def _echo(before: list[Message], ears: Ears) -> str:
    """What the last turn `before` this one said, as far as that is known."""
    if not before:
        return "You hadn't said anything before that."
    said = [f"you typed: \u201c{typed}\u201d"] if (typed := _typed(before[-1])) else []
    for audio in audios_in(before[-1]):
        heard = await ears.hear(audio)
        if heard.request:
            said.append(f"you said: \u201c{heard.request}\u201d")
        elif transcript := await ears.transcript([audio]):
            said.append(f"you said (rough transcript): \u201c{transcript}\u201d")
        else:
            said.append(f"you spoke for {heard.sound.duration_s:.1f} seconds")
    return f"Before that, {'; '.join(said)}."


async def _description(turn: Message, ears: Ears) -> AsyncGenerator[Piece, None]:
    """What can be said of a turn that is no request."""
    audios = audios_in(turn)
    if not audios:
        for piece in pieces(f"I didn't understand that. {ABILITIES}"):
            yield piece
        return
    # Recognised while the measures are being told.
    recognising = asyncio.create_task(ears.transcript(audios), name="transcript")
    try:
        sounds = [(await ears.hear(audio)).sound for audio in audios]
        for piece in pieces(" ".join(map(_sound, sounds))):
            yield piece
        if not ears.know_words and any(sound.pitch_hz for sound in sounds):
            for piece in pieces(f" {WORDLESS}"):
                yield piece
        if transcript := await recognising:
            for piece in pieces(f" Rough transcript: \u201c{transcript}\u201d"):
                yield piece
    finally:
        recognising.cancel()
        await asyncio.gather(recognising, return_exceptions=True)


def audios_in(turn: Message) -> list[AudioPart]:
    """The audio parts of a turn."""
    return [part for part in turn.parts if isinstance(part, AudioPart)]


def _typed(turn: Message) -> str:
    return " ".join(part.text for part in turn.parts if isinstance(part, TextPart)).strip()


def _sound(sound: Sound) -> str:
    length = f"{sound.duration_s:.1f} seconds"
    if sound.silent:
        return f"I heard {length} of silence ({sound.level_dbfs:.0f} dBFS)."
    what = "a voice" if sound.pitch_hz else "sound without a voice"
    facts = [f"I heard {length} of {what} at {sound.level_dbfs:.0f} dBFS"]
    if sound.noise_dbfs is not None and sound.snr_db is not None:
        facts.append(
            f"over a background of {sound.noise_dbfs:.0f} dBFS (signal to noise "
            f"{sound.snr_db:.0f} dB)"
        )
    if sound.pitch_hz is not None:
        facts.append(f"pitched around {sound.pitch_hz:.0f} Hz")
    if sound.syllables_per_s is not None:
        facts.append(f"at some {sound.syllables_per_s:.1f} syllables per second")
    clipping = " It is clipped: move away or turn the microphone down." if sound.clipped else ""
    return ", ".join(facts) + "." + clipping
