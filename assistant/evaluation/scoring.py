"""How right answers are: the measures that the field publishes.

Texts are compared as in Qwen2-Audio's published evaluation: except for BLEU, by Whisper's
normalisers, which take away case and punctuation, and in English spell out what is written in more
than one way.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Literal, assert_never

import jiwer
import sacrebleu
from whisper_normalizer.basic import BasicTextNormalizer
from whisper_normalizer.english import EnglishTextNormalizer

Task = Literal["asr", "translation", "classification", "qa"]

WITHOUT_SPACES = frozenset({"zh", "yue", "ja", "th", "lo", "my", "km"})
"""Languages in which words can't be told apart by spaces: characters are counted instead."""
_UNITS = re.compile(r"[a-z]+|\d+|\S")
"""What is a word there: each character, but for what is no word in parts in any language."""

_basic: Callable[[str], str] = BasicTextNormalizer()
_english: Callable[[str], str] = EnglishTextNormalizer()


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model said, and what would have been right."""

    text: str
    references: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Score:
    """A measure over answers."""

    measure: str
    percent: float
    detail: str = ""
    """What it is made of."""

    def __str__(self) -> str:
        detail = f" ({self.detail})" if self.detail else ""
        return f"{self.measure} {self.percent:.2f}{detail}"


def score(task: Task, answers: Sequence[Answer], language: str) -> Score:
    """`language`: that of the answers, such as `en`. There must be answers."""
    match task:
        case "asr":
            return _error_rate(answers, language)
        case "translation":
            return _bleu(answers, language)
        case "classification":
            return _accuracy(answers, language, _equals)
        case "qa":
            return _accuracy(answers, language, _contains)
    assert_never(task)


def normalised(text: str, language: str) -> str:
    """Without what doesn't count: words between spaces."""
    text = _basic(_english(text)) if language == "en" else _basic(text)
    return " ".join(_UNITS.findall(text) if language in WITHOUT_SPACES else text.split())


def _error_rate(answers: Sequence[Answer], language: str) -> Score:
    """By the first reference of each."""
    references = [normalised(answer.references[0], language) for answer in answers]
    said = [normalised(answer.text, language) for answer in answers]
    if language in WITHOUT_SPACES:
        references, said = (
            [text.replace(" ", "") for text in texts] for texts in (references, said)
        )
        characters = jiwer.process_characters(references, said)
        return Score("character error rate, %", 100 * characters.cer, _edits(characters))
    words = jiwer.process_words(references, said)
    return Score("word error rate, %", 100 * words.wer, _edits(words))


def _edits(result: jiwer.WordOutput | jiwer.CharacterOutput) -> str:
    return (
        f"{result.substitutions} substituted, {result.deletions} left out, "
        f"{result.insertions} put in, {result.hits} right"
    )


def _bleu(answers: Sequence[Answer], language: str) -> Score:
    # Of Chinese and Japanese, sacrebleu's own tokenizer for Japanese wants a dictionary.
    tokenizer = {"zh": "zh", "yue": "zh", "ja": "char", "th": "char"}.get(language, "13a")
    # One stream for the first references, one for the second, and so on.
    streams = [*zip_longest(*(answer.references for answer in answers))]
    metric = sacrebleu.BLEU(tokenize=tokenizer)
    result = metric.corpus_score([answer.text for answer in answers], streams)
    return Score("BLEU", result.score, str(metric.get_signature()))


def _accuracy(
    answers: Sequence[Answer], language: str, is_right: Callable[[str, str], bool]
) -> Score:
    right = sum(
        any(
            is_right(normalised(answer.text, language), normalised(reference, language))
            for reference in answer.references
        )
        for answer in answers
    )
    return Score("accuracy, %", 100 * right / len(answers), f"{right} of {len(answers)}")


def _equals(text: str, reference: str) -> bool:
    return text == reference


def _contains(text: str, reference: str) -> bool:
    """As whole words; models answer questions in sentences."""
    return f" {reference} " in f" {text} "
