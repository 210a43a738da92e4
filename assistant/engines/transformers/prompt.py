"""A declared prompt as token ids, through the checkpoint's own chat template.

Texts go through the template in one piece with it, since a tokenizer may merge across their ends;
that is the model card's way. Two things differ: where a text spells a control token, it is cut,
so that it stays text; and a reply whose ids are known is put in by its ids.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from assistant.engines.engine import TokenCount
from assistant.engines.transformers.call_formats import demanded_in
from assistant.engines.transformers.functions import HELD, Functions
from assistant.engines.transformers.model import Checkpoint
from assistant.engines.transformers.models.architecture import Chat
from assistant.engines.transformers.opening import Openings
from assistant.engines.transformers.slots import Units
from assistant.errors import EngineError
from assistant.prompt import (
    AudioPart,
    FunctionCall,
    FunctionOutput,
    Message,
    Part,
    Prompt,
    TextPart,
    written_in,
)
from audio_io.pcm import SAMPLE_RATE_HZ, SAMPLES_PER_MS, Int16Array

MAX_AUDIO_S = 30.0
# Less gives a single audio token, which the model takes for a placeholder yet to be widened.
MIN_AUDIO_SAMPLES = 100 * SAMPLES_PER_MS
REMEMBERED_TEXTS, REMEMBERED_CHARACTERS = 4096, 4096
# Two noncharacters of Unicode: meant for use inside a program, and in no text from outside.
_CUT = "\ufdd0"
_IDS = "\ufdd1"
# Beyond the ids of tokens.
_HEARS = 1 << 40
_MARKS = str.maketrans("", "", _CUT + _IDS + HELD)


@dataclass(frozen=True, slots=True)
class AudioSpan:
    """Where an audio part lies in a prompt."""

    digest: str
    start: int
    end: int
    samples: Int16Array
    """int16 (n,), 16 kHz mono, 0.1 to 30 s."""

    @property
    def unit(self) -> int:
        """A negative number that stands for these samples alone."""
        # 60 bits: among a million sounds, two are alike in one case of two million.
        return -1 - int(self.digest[:15], 16)


@dataclass(frozen=True)
class RenderedPrompt:
    """A prompt as the model takes it."""

    ids: tuple[int, ...]
    """Each audio part is as many times the audio token as it takes."""
    audio: tuple[AudioSpan, ...]
    """The audio parts in order."""
    hearing_matters: bool = False
    """Whether all of it is computed another way where there is audio."""

    @property
    def hears(self) -> bool:
        """Whether there is audio."""
        return bool(self.audio)

    @cached_property
    def units(self) -> Units:
        """The same, with what is heard in the place of the audio tokens."""
        units = np.array(self.ids, np.int64)
        for span in self.audio:
            units[span.start : span.end] = span.unit
        if self.hearing_matters and self.hears:
            # What begins with another unit has nothing in common.
            units[0] += _HEARS
        return units

    @property
    def count(self) -> TokenCount:
        return self.count_of(len(self.ids))

    def count_of(self, length: int) -> TokenCount:
        """How many tokens of each kind are among the first `length`."""
        audio = sum(max(0, min(span.end, length) - span.start) for span in self.audio)
        return TokenCount(length - audio, audio)


class PromptRenderer:
    """Renders prompts for one checkpoint."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self._tokenizer = checkpoint.tokenizer
        self._audio_id = checkpoint.audio_token_id
        self._audio_token: str = self._tokenizer.convert_ids_to_tokens(self._audio_id)
        self.functions = Functions(self._tokenizer.chat_template or "", self._cut)
        # What was said before comes again with every turn.
        self._remembered_ids = lru_cache(maxsize=REMEMBERED_TEXTS)(self._ids)
        control = self._tokenizer.get_added_vocab()
        marks = self.functions.form.control if self.functions.form else ()
        self.call_ids = frozenset(control[mark] for mark in marks if mark in control)
        """The control tokens of calls."""
        # Wherever one begins, also inside another; what is a single character can't be cut.
        self._control = re.compile(
            f"(?=(?:{'|'.join(map(re.escape, control))}))(.)", flags=re.DOTALL
        )

    def render(
        self, prompt: Prompt, audio: dict[str, Int16Array], transcribe: str | None = None
    ) -> RenderedPrompt:
        """The prompt, whose audio is found in `audio` by its digest.

        With `transcribe`, a request for a transcript in that language ends it. Raises EngineError
        where there is nothing to answer, or a part is longer than the model takes.
        """
        if not prompt.messages:
            raise EngineError("There is nothing to answer: the conversation is empty.")
        known: list[tuple[int, ...]] = []
        chat = self._chat(prompt.messages, known)
        text = self._tokenizer.apply_chat_template(
            self._checkpoint.architecture.chat(chat, self._audio_token),
            tools=self.functions.offered(prompt) or None,
            add_generation_prompt=True,
            tokenize=False,
        )
        text = self.functions.release(text)
        before, after = self._checkpoint.architecture.around
        if before or after:
            text = text.replace(self._audio_token, before + self._audio_token + after)
        if transcribe is not None:
            text += self._transcription(transcribe)
        encoded = list(self._encode(text, known))
        _check_places(encoded.count(self._audio_id), len(list(_audio_parts(prompt))))
        parts = _audio_parts(prompt)
        ids: list[int] = []
        spans: list[AudioSpan] = []
        for id_ in encoded:
            if id_ == self._audio_id:
                digest = next(parts).digest
                samples = _hearable(audio[digest])
                tokens = self._checkpoint.audio_tokens(len(samples))
                spans.append(AudioSpan(digest, len(ids), len(ids) + tokens, samples))
                ids += [id_] * tokens
            else:
                ids.append(id_)
        hearing_matters = self._checkpoint.architecture.hearing_matters
        return RenderedPrompt(tuple(ids), tuple(spans), hearing_matters)

    def openings(self, prompt: Prompt) -> Openings:
        """What a reply to it has to begin with, where that has to be a call."""
        if (form := self.functions.form) is None:
            return ()
        texts = (form.opening(self._cut(name)) for name in demanded_in(prompt))
        return tuple(tuple(self._encode(text, [])) for text in texts)

    def _transcription(self, language: str) -> str:
        request = self._checkpoint.architecture.transcription(self._cut(language))
        if request is None:
            raise EngineError("The model knows no request for a transcript.")
        return request

    def _chat(self, messages: tuple[Message, ...], known: list[tuple[int, ...]]) -> Chat:
        """The messages as chat templates take them; ids go to `known` and leave a mark.

        What the assistant says before it calls a function, and the call, are one message there.
        """
        chat: Chat = []
        for message in messages:
            written = self._chat_message(message, known)
            is_call = isinstance(message.parts[0], FunctionCall) if message.parts else False
            if is_call and chat and chat[-1]["role"] == "assistant":
                before = chat.pop()
                written["content"] = before["content"] + written["content"]
                calls = [*before.get("tool_calls", ()), *written.get("tool_calls", ())]
                if calls:
                    written["tool_calls"] = calls
            chat.append(written)
        self.functions.hold(chat)
        return chat

    def _chat_message(self, message: Message, known: list[tuple[int, ...]]) -> dict[str, Any]:
        if message.role == "user" or (message.role == "tool" and not self.functions.form):
            # A template that knows of no functions may refuse to know of their outputs.
            content = [self._content(part) for part in message.parts]
            return {"role": "user", "content": content}
        pieces: list[str] = []
        calls: list[dict[str, Any]] = []
        for part in message.parts:
            call = self.functions.call(part) if isinstance(part, FunctionCall) else None
            if call:
                calls.append(call)
            if isinstance(part, TextPart | FunctionCall) and part.token_ids:
                pieces.append(f"{_IDS}{len(known)}{_IDS}")
                known.append(part.token_ids)
            elif not call:
                pieces += self.functions.texts(part)
        written: dict[str, Any] = {"role": message.role, "content": "".join(pieces)}
        if calls:
            written["tool_calls"] = calls
        match message.parts:
            case (FunctionOutput(call_id),):
                written["tool_call_id"] = self._cut(call_id)
        return written

    def _content(self, part: Part) -> dict[str, str]:
        if isinstance(part, AudioPart):
            return {"type": "audio"}
        text = "".join(written_in(part))
        plain = not (isinstance(part, TextPart) and part.has_control_tokens)
        return {"type": "text", "text": self._cut(text) if plain else text.translate(_MARKS)}

    def _cut(self, text: str) -> str:
        return self._control.sub(rf"\1{_CUT}", text.translate(_MARKS))

    def _encode(self, text: str, known: list[tuple[int, ...]]) -> Iterator[int]:
        # Splitting at a group puts every other piece into the group: here the index of known ids.
        for index, piece in enumerate(re.split(f"{_IDS}(\\d+){_IDS}", text)):
            if index % 2:
                yield from known[int(piece)]
            else:
                for run in piece.split(_CUT):
                    short = len(run) <= REMEMBERED_CHARACTERS
                    yield from self._remembered_ids(run) if short else self._ids(run)

    def _ids(self, text: str) -> tuple[int, ...]:
        return tuple(self._tokenizer.encode(text, add_special_tokens=False))


def _audio_parts(prompt: Prompt) -> Iterator[AudioPart]:
    for message in prompt.messages:
        yield from (part for part in message.parts if isinstance(part, AudioPart))


def _check_places(places: int, sounds: int) -> None:
    if places != sounds:
        raise EngineError(
            f"The model's chat template writes {places} places for the {sounds} sounds of this "
            "conversation."
        )


def _hearable(samples: Int16Array) -> Int16Array:
    if len(samples) > MAX_AUDIO_S * SAMPLE_RATE_HZ:
        raise EngineError(
            f"A part of the audio lasts {len(samples) / SAMPLE_RATE_HZ:.1f} s, and the model takes "
            f"{MAX_AUDIO_S} s at most. Send it as several parts."
        )
    if len(samples) >= MIN_AUDIO_SAMPLES:
        return samples
    return np.pad(samples, (0, MIN_AUDIO_SAMPLES - len(samples)))
