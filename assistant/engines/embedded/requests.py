"""The few requests that are understood: one grammar, for the recogniser and for typed text. Pure.

The rules are written once, in the notation of JSGF (the Java Speech Grammar Format, which
pocketsphinx reads): `[this]` may be left out, `a | b` is a choice. Typed text is matched by the
same rules as a regular expression, where numbers may be figures too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Operator = Literal["plus", "minus", "times"]

ONES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
TEENS = [
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]

RULES = {
    "hello": "hello [world | there] | hi [there] | good (morning | afternoon | evening)",
    "goodbye": "goodbye | see you later",
    "time": "[(what is | what's | tell me) the] time [please] | what time is it [now]",
    "date": (
        "(what is | what's | tell me) the date [today | please] | what day is it [today]"
        " | (what is | what's) today's date"
    ),
    "numbers": "<number> | <digit> <digits>",
    "sum": "[what is | what's] <number> (plus | minus | times) <number>",
    "echo": "what did i say | [please] repeat that | say that again",
    "count": "[please] count to <number>",
    "help": "help [me] | what can you do | can you help me",
}
"""What can be said, and typed. Few and unlike each other, or the recogniser mixes them up."""

TYPED_RULES = RULES | {
    "hello": RULES["hello"] + " | hey [there]",
    "goodbye": RULES["goodbye"] + " | bye [bye]",
    "time": RULES["time"] + " | the time [please]",
    "date": RULES["date"] + " | [the] date [please]",
}
"""Some can only be typed: as sounds they are too like others ("bye" is taken for "five")."""

HIGHEST_COUNT = 100


@dataclass(frozen=True, slots=True)
class Hello:
    """A greeting."""


@dataclass(frozen=True, slots=True)
class Goodbye:
    """A farewell."""


@dataclass(frozen=True, slots=True)
class Time:
    """What time it is."""


@dataclass(frozen=True, slots=True)
class Date:
    """What day it is."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """A number, or digits one after the other."""

    values: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Sum:
    """Two numbers to be added, subtracted or multiplied."""

    left: int
    operator: Operator
    right: int

    @property
    def result(self) -> int:
        match self.operator:
            case "plus":
                return self.left + self.right
            case "minus":
                return self.left - self.right
            case "times":
                return self.left * self.right


@dataclass(frozen=True, slots=True)
class Echo:
    """What the person said before."""


@dataclass(frozen=True, slots=True)
class Count:
    """To count from one, slowly: something to interrupt."""

    to: int


@dataclass(frozen=True, slots=True)
class Help:
    """What can be asked."""


Request = Hello | Goodbye | Time | Date | Numbers | Sum | Echo | Count | Help


def understand(text: str) -> Request | None:
    """The request that `text`, typed or recognised, makes as a whole; None if it is none."""
    words = _words(text)
    for name, pattern in _PATTERNS.items():
        if pattern.fullmatch(words):
            return _request(name, words.split())
    return None


def in_words(number: int) -> str:
    """A number from 0 to 100 as it is spoken."""
    if number < 20:
        return (ONES + TEENS)[number]
    if number == 100:
        return "one hundred"
    tens, ones = divmod(number, 10)
    return TENS[tens - 2] + (f"-{ONES[ones]}" if ones else "")


def jsgf() -> str:
    """The grammar of spoken requests."""
    numbers = {
        "digit": " | ".join(ONES),
        "digits": "<digit>+",
        "number": f"<digit> | {' | '.join(TEENS)} | ({' | '.join(TENS)}) [{' | '.join(ONES[1:])}]",
    }
    rules = [f"<{name}> = {rule};" for name, rule in (numbers | RULES).items()]
    request = " | ".join(f"<{name}>" for name in RULES)
    return "\n".join(["#JSGF V1.0;", "grammar requests;", *rules, f"public <request> = {request};"])


def _words(text: str) -> str:
    """Lower-case words, each with a space behind it: `What's 2+3?` is `what's 2 plus 3 `."""
    text = text.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    text = re.sub(r"(?<=[a-z])-(?=[a-z])", " ", text)
    text = re.sub(r"(?<=\d)\s*x\s*(?=\d)", " times ", text)
    for symbols, word in (
        ("+", "plus"),
        ("-\N{MINUS SIGN}", "minus"),
        ("*\N{MULTIPLICATION SIGN}", "times"),
    ):
        text = re.sub(rf"(?<=\d)\s*[{re.escape(symbols)}]\s*(?=\d)", f" {word} ", text)
    return "".join(f"{word} " for word in re.sub(r"[?!.,;:=]+(?=\s|$)", " ", text).split())


def _pattern(rule: str) -> re.Pattern[str]:
    """A rule as a regular expression over `_words`."""
    digit = f"(?:{'|'.join(ONES)}|[0-9]) "
    number = (
        rf"(?:[0-9]{{1,9}} |(?:{'|'.join(ONES + TEENS)}) "
        rf"|(?:{'|'.join(TENS)}) (?:(?:{'|'.join(ONES[1:])}) )?)"
    )
    meanings = {
        "<number>": number,
        "<digit>": digit,
        "<digits>": f"(?:{digit})+",
        "[": "(?:",
        "]": ")?",
        "(": "(?:",
    }
    tokens = re.findall(r"<\w+>|[\[\]()|]|[\w']+", rule)
    parts = (meanings.get(token) or (token if token in ")|" else f"{token} ") for token in tokens)
    return re.compile("".join(parts))


_PATTERNS = {name: _pattern(rule) for name, rule in TYPED_RULES.items()}


def _request(name: str, words: list[str]) -> Request:
    match name:
        case "hello":
            return Hello()
        case "goodbye":
            return Goodbye()
        case "time":
            return Time()
        case "date":
            return Date()
        case "numbers":
            return Numbers(tuple(_values(words)))
        case "sum":
            left, right = _values(words)
            return Sum(left, next(op for op in _OPERATORS if op in words), right)
        case "echo":
            return Echo()
        case "count":
            (to,) = _values(words)
            return Count(to)
        case _:
            return Help()


_OPERATORS: tuple[Operator, ...] = ("plus", "minus", "times")
_VALUES = {word: value for value, word in enumerate(ONES + TEENS)} | {
    word: 10 * value for value, word in enumerate(TENS, 2)
}


def _values(words: list[str]) -> list[int]:
    """The numbers among `words`; a digit behind a multiple of ten belongs to it."""
    values: list[int] = []
    tens = False
    for word in words:
        value = int(word) if word.isdecimal() else _VALUES.get(word)
        if value is not None and tens and 0 < value < 10:
            values[-1] += value
        elif value is not None:
            values.append(value)
        tens = word in TENS
    return values
