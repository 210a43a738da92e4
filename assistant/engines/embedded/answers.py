"""What the stand-in says to a prompt, given what it heard. Pure."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import assert_never

from assistant.conversation import AudioPart, Message, Prompt, TextPart
from assistant.engines.embedded.hearing import Heard
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

INTRODUCTION = (
    "I'm the built-in stand-in, not a language model; "
    "`make run MODEL=Qwen/Qwen2-Audio-7B-Instruct` brings a real one."
)
ABILITIES = (
    "I describe what I hear, and understand a few requests: hello, goodbye, the time, the date, "
    "digits and sums such as two plus three, what did I say, count to twenty, and help."
)
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


def answer(prompt: Prompt, heard: Mapping[str, Heard], now: datetime) -> Iterator[Piece]:
    """The reply to `prompt`. `heard`: what is in its audios, by digest."""
    if not any(message.role == "assistant" for message in prompt.messages):
        yield from pieces(INTRODUCTION)
        yield Piece("\n\n")
    turns = [message for message in prompt.messages if message.role == "user"]
    if not turns:
        yield from pieces(ABILITIES)
        return
    turn, before = turns[-1], turns[:-1]
    request = _request(turn, heard)
    match request:
        case Count():
            yield from _counting(min(request.to, HIGHEST_COUNT))
        case None:
            yield from pieces(_description(turn, heard))
        case _:
            yield from pieces(_reply(request, before, heard, now))


def _request(turn: Message, heard: Mapping[str, Heard]) -> Request | None:
    """What the turn asks for: typed, or else spoken and understood for certain."""
    audios = [part for part in turn.parts if isinstance(part, AudioPart)]
    typed = _typed(turn)
    if typed and not audios:
        return understand(typed)
    if len(audios) != 1 or typed:
        return None
    request = heard[audios[0].digest].request
    return understand(request) if request else None


def _reply(
    request: Request, before: list[Message], heard: Mapping[str, Heard], now: datetime
) -> str:
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
        case Echo():
            if not before:
                return "You hadn't said anything before that."
            return f"Before that, {_quoted(before[-1], heard)}"
        case Help():
            return ABILITIES
        case Count():
            raise AssertionError("counted elsewhere")
        case _:
            assert_never(request)


def _counting(to: int) -> Iterator[Piece]:
    if to == 0:
        yield from pieces("I can count from one to a hundred.")
    for number in range(1, to + 1):
        end = "." if number == to else ","
        word = in_words(number).capitalize() if number == 1 else f" {in_words(number)}"
        yield Piece(word + end, pause_s=0.0 if number == 1 else COUNT_PAUSE_S)


def _quoted(turn: Message, heard: Mapping[str, Heard]) -> str:
    """What a turn said, as far as that is known, as a clause."""
    said = [f"you typed: \u201c{typed}\u201d"] if (typed := _typed(turn)) else []
    for part in turn.parts:
        if isinstance(part, AudioPart):
            known = heard[part.digest]
            if known.request:
                said.append(f"you said: \u201c{known.request}\u201d")
            elif known.transcript:
                said.append(f"you said (rough transcript): \u201c{known.transcript}\u201d")
            else:
                said.append(f"you spoke for {known.sound.duration_s:.1f} seconds")
    return "; ".join(said) + "."


def _description(turn: Message, heard: Mapping[str, Heard]) -> str:
    """What can be said of a turn that is no request."""
    audios = [heard[part.digest] for part in turn.parts if isinstance(part, AudioPart)]
    if not audios:
        return f"I didn't understand that. {ABILITIES}"
    sentences = [_sound(known.sound) for known in audios]
    transcript = " ".join(known.transcript for known in audios if known.transcript)
    if transcript:
        sentences.append(f"Rough transcript: \u201c{transcript}\u201d")
    return " ".join(sentences)


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
