"""From a request to its reply: in the session that knows the most of its conversation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import assert_never

import orjson

from assistant.chat.kept import KeptConversation, KeptConversations
from assistant.chat.requests import ChatRequest, Item, Said, Sound
from assistant.config import Config
from assistant.engines.engine import Engine, ReplyEvent, ReplyOptions, Text, ToolCall
from assistant.errors import ProtocolError
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
from assistant.realtime.complaints import check_total
from audio_io.parts import in_parts
from audio_io.pcm import SAMPLE_RATE_HZ
from audio_io.sources import SourceLimits, read_base64, read_content, read_url


class Answerer:
    """Answers requests by `engine`, which must have started before the first."""

    def __init__(self, config: Config, engine: Engine) -> None:
        self._config = config
        self._engine = engine
        self._conversations = KeptConversations(engine, config.chat.max_conversations)
        # Of its own, since downloads may take all the time that they are given.
        self._hearing = ThreadPoolExecutor(config.chat.max_conversations, "chat hearing")

    async def begin(self, asked: ChatRequest) -> tuple[ReplyEvent, AsyncGenerator[ReplyEvent]]:
        """The reply's first event, and the others, which are to be closed when no more is wanted.

        Raises ProtocolError for more than a conversation may have, or than the model can do;
        AudioFormatError, RefusedError, EngineError.
        """
        self._check(asked)
        events = self._reply(asked)
        return await anext(events), events

    async def _reply(self, asked: ChatRequest) -> AsyncGenerator[ReplyEvent]:
        """What has been said of the reply stays known, however it ends."""
        async with self._conversations.take(asked.said) as kept:
            new = asked.said[len(kept.said) :]
            messages = await self._messages(new, kept.messages)
            for said, message in zip(new, messages, strict=True):
                kept.add(_without_data(said), message)
            prompt = Prompt(tuple(kept.messages), asked.tools, asked.tool_choice)
            options = ReplyOptions(asked.max_output_tokens, temperature=asked.temperature)
            reply = kept.session.reply(prompt, options)
            texts: list[Text] = []
            calls: list[ToolCall] = []
            try:
                async for event in reply:
                    match event:
                        case Text():
                            texts.append(event)
                        case ToolCall():
                            calls.append(event)
                    yield event
            finally:
                await reply.cancel()
                _remember(kept, texts, calls)

    def _check(self, asked: ChatRequest) -> None:
        limits, info = self._config.limits, self._engine.info
        items = [item for said in asked.said for item in said.items]
        chars = sum(len(text) for item in items for text in _written_in(item))
        # As a template shows them to the model.
        tools_chars = sum(len(orjson.dumps(tool).decode()) for tool in asked.tools)
        if len(asked.said) > limits.max_messages:
            raise ProtocolError(
                f"At most {limits.max_messages} messages are taken.", param="messages"
            )
        if chars > limits.max_text_chars:
            raise ProtocolError(
                f"At most {limits.max_text_chars} characters are taken.", param="messages"
            )
        check_total(tools_chars, limits.max_text_chars, param="tools")
        if asked.tools and not info.tools:
            raise ProtocolError(
                f"{info.model} calls no functions.", code="unsupported_parameter", param="tools"
            )

    async def _messages(self, new: Sequence[Said], known: Sequence[Message]) -> list[Message]:
        """What was said after what is known, as the model is told it."""
        messages: list[Message] = []
        limits = self._config.files.limits()
        for said in new:
            parts: list[Part] = []
            for item in said.items:
                match item:
                    case str():
                        parts.append(TextPart(item))
                    case FunctionCall() | FunctionOutput():
                        parts.append(item)
                    case Sound():
                        held = [part for message in (*known, *messages) for part in message.parts]
                        left_s = limits.max_s - _sound_s([*held, *parts])
                        left = replace(limits, max_s=max(0.0, left_s))
                        loop = asyncio.get_running_loop()
                        parts += await loop.run_in_executor(self._hearing, self._hear, item, left)
            id_ = f"message_{len(known) + len(messages)}"
            messages.append(Message(id_, said.role, tuple(parts)))
        return messages

    def _hear(self, sound: Sound, limits: SourceLimits) -> list[AudioPart]:
        match sound.data:
            case bytes() as content:
                recording = read_content(content, limits)
            case url if sound.is_url:
                recording = read_url(url, limits)
            case encoded:
                recording = read_base64(encoded, limits)
        pieces = in_parts(recording.samples, self._engine.info.max_audio_s)
        return [AudioPart.of(piece) for _, piece in pieces]


def _written_in(item: Item) -> tuple[str, ...]:
    match item:
        case str():
            return (item,)
        case Sound():
            return ()
        case FunctionCall() | FunctionOutput():
            return written_in(item)
        case _:
            assert_never(item)


def _sound_s(parts: Sequence[Part]) -> float:
    return sum(len(part.samples) for part in parts if isinstance(part, AudioPart)) / SAMPLE_RATE_HZ


def _without_data(said: Said) -> Said:
    items = (replace(item, data="") if isinstance(item, Sound) else item for item in said.items)
    return Said(said.role, tuple(items))


def _remember(kept: KeptConversation, texts: list[Text], calls: list[ToolCall]) -> None:
    """What the reply has said belongs to the conversation, with the tokens that it was made of."""
    if texts:
        text = "".join(piece.text for piece in texts)
        ids = tuple(id_ for piece in texts for id_ in piece.ids)
        _add_reply(kept, text, TextPart(text, ids))
    for call in calls:
        said = FunctionCall(call.call_id, call.name, call.arguments)
        _add_reply(kept, said, replace(said, token_ids=call.ids))


def _add_reply(kept: KeptConversation, said: Item, part: Part) -> None:
    message = Message(f"message_{len(kept.messages)}", "assistant", (part,))
    kept.add(Said("assistant", (said,)), message)
