"""Golden transcripts: conversations written down whole, as files in tests/golden.

# what it is about
> {"type": "response.create"}     the client sends this
~ starts                          the person: starts, goes on, pauses, resumes, stops
~ 6000 ms                         so much time passes
= resp_1 started "Hi" finished    the model: started, texts, calls, finished, cut, fills, fails
< {"type": "response.created"...  the server sends this, but for its event_id
! StartReply resp_1 ...           what else is to be done
@ {"max_messages": 3}             the session's limits, in the first line

python -m tests.golden            writes what follows from each `>`, `~` and `=` anew
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from assistant.engines.engine import (
    Finished,
    ReplyEvent,
    ReplyOptions,
    Started,
    Text,
    TokenCount,
    ToolCall,
)
from assistant.prompt import NO_ID, Prompt
from assistant.realtime.effects import (
    CancelReply,
    CommitReply,
    Effect,
    Feed,
    FlushHearing,
    Prefill,
    Send,
    StartReply,
)
from audio_io.speech_events import SpeechResumed
from tests.protocol import valid
from tests.test_realtime_session import (
    CONTEXT_TOKENS,
    FINISHED,
    LIMITS,
    REPORT,
    Client,
    full,
    utterance,
)

FOLDER = Path(__file__).parent / "golden"
SCRIPTED = ("#", ">", "~", "=", "@")


def replayed(transcript: str) -> str:
    """The transcript with what follows from its script now."""
    limits = [json.loads(line[1:]) for line in transcript.splitlines() if line.startswith("@")]
    player = _Player(*limits)
    lines: list[str] = []
    for line in transcript.splitlines():
        if not line or line.startswith(SCRIPTED):
            lines.append(line)
        match line[:1]:
            case ">":
                event = json.loads(line[1:])
                lines += player.carry_out(player.client.send(**_named(event)))
            case "~":
                lines += player.carry_out(player.person(line[1:].strip()))
            case "=":
                reply_id, _, said = line[1:].strip().partition(" ")
                lines += player.carry_out(player.model(reply_id, said))
    return "\n".join(lines) + "\n"


class _Player:
    def __init__(self, limits: dict[str, Any] | None = None) -> None:
        self.client = Client(takes_tools=True, limits=replace(LIMITS, **(limits or {})))
        self.session = self.client.session
        self.position = 0
        self.tokens = 0

    def person(self, does: str) -> list[Effect]:
        match does.split():
            case ["starts"]:
                self.position += 16_000
                return self.client.starts_to_speak(self.position)
            case ["goes", "on"]:
                return self.client.keeps_speaking()
            case ["pauses"]:
                return self.client.pauses()
            case ["resumes"]:
                return self.session.heard(SpeechResumed(self.client.said.end_sample))
            case ["stops"]:
                self.position += 32_000
                return self.client.stops()
            case [ms, "ms"]:
                self.client.now_ms += int(ms)
                return self.session.time(self.client.now_ms)
        raise ValueError(does)

    def model(self, reply_id: str, said: str) -> list[Effect]:
        if said == "fails":
            return self.session.failed(reply_id, "out of memory")
        if said == "too long":
            shortened = self.session.too_long(reply_id, TokenCount(2 * CONTEXT_TOKENS))
            assert shortened is not None
            prompt, effects = shortened
            return [*effects, StartReply(reply_id, prompt, ReplyOptions())]
        return [e for event in self._events(said) for e in self.session.generated(reply_id, event)]

    def _events(self, said: str) -> Iterator[ReplyEvent]:
        while said:
            match said[0]:
                case '"' | "{":
                    value, end = json.JSONDecoder().raw_decode(said)
                    said = said[end:].lstrip()
                    self.tokens += 1
                    if isinstance(value, str):
                        yield Text(value, (self.tokens,))
                    else:
                        yield ToolCall(**value, ids=(self.tokens,))
                case _:
                    word, _, said = said.partition(" ")
                    yield {
                        "started": Started(REPORT),
                        "finished": FINISHED,
                        "cut": Finished("length", FINISHED.usage, FINISHED.timings),
                        "fills": full(CONTEXT_TOKENS),
                    }[word]

    def carry_out(self, effects: list[Effect]) -> Iterator[str]:
        for effect in effects:
            yield _line(effect)
            if isinstance(effect, FlushHearing):
                self.position += 32_000
                found = utterance(self.position)
                flushed = self.session.flushed(found, effect.event_id, idle=effect.idle)
                yield from self.carry_out(flushed)


def _line(effect: Effect) -> str:
    match effect:
        case Send(event):
            shown = {key: value for key, value in valid(event).items() if key != "event_id"}
            return f"< {json.dumps(shown, ensure_ascii=False)}"
        case StartReply(reply_id, prompt, options, side):
            ahead = " ahead" if options.speculative else ""
            beside = " beside" if side else ""
            limit = f" at most {options.max_output_tokens}" if options.max_output_tokens else ""
            return f"! StartReply {reply_id}{ahead}{beside}{limit}: {_prompt(prompt)}"
        case Prefill(prompt):
            return f"! Prefill {_prompt(prompt)}"
        case CancelReply(reply_id) | CommitReply(reply_id):
            return f"! {type(effect).__name__} {reply_id}"
        case Feed(samples, sample_rate_hz):
            return f"! Feed {len(samples)} samples at {sample_rate_hz} Hz"
        case _:
            return f"! {type(effect).__name__}"


def _prompt(prompt: Prompt) -> str:
    task = "transcribe " if prompt.task == "transcription" else ""
    ids = ", ".join("unnamed" if m.id == NO_ID else m.id for m in prompt.messages)
    tools = "".join(f" {tool.name}()" for tool in prompt.tools)
    return f"{task}[{ids}]{tools}"


def _named(event: dict[str, Any]) -> dict[str, Any]:
    return {"type_": event.pop("type"), **event}


def transcripts() -> list[Path]:
    return sorted(FOLDER.glob("*.txt"))


if __name__ == "__main__":
    for path in transcripts():
        path.write_text(replayed(path.read_text()))
