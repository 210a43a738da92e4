"""What the model is asked, by the settings. Pure, but for a line of the log, once in a process."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache

from assistant.engines.engine import ReplyOptions
from assistant.prompt import Message, Prompt, make_prompt
from assistant.realtime.settings import SessionSettings
from assistant.realtime.tools import tool_choice_of, tools_of

logger = logging.getLogger(__name__)

MOST_CHARS_PER_TOKEN = 8
"""No language has more on average, as far as a text is long: English has 4 to 5."""


def longest_text(*, context_tokens: int, max_text_chars: int) -> int:
    """Most characters that a single text of a prompt may have.

    With more, it is over the limit for all of them, or has no room in the model.
    """
    return min(max_text_chars, context_tokens * MOST_CHARS_PER_TOKEN)


@dataclass(frozen=True, slots=True)
class Model:
    """What a session needs to know of the model that answers."""

    name: str
    """As clients see it."""
    context_tokens: int
    """Most that it takes, prompt and reply together."""
    tools: bool = False
    """Whether it can call functions."""

    def prompt(self, settings: SessionSettings, messages: Iterable[Message]) -> Prompt:
        """The prompt for a reply to `messages`."""
        prompt = make_prompt(settings.instructions, messages)
        if not settings.tools:
            return prompt
        if not self.tools:
            _tell_that_tools_are_unused(self.name)
            return prompt
        return replace(
            prompt,
            tools=tools_of(settings.tools),
            tool_choice=tool_choice_of(settings.tool_choice),
        )

    def fixed_chars(self, settings: SessionSettings) -> int:
        """How much text each prompt has besides its messages, about."""
        tools = settings.tools if self.tools else []
        return len(settings.instructions) + sum(len(tool.model_dump_json()) for tool in tools)


def options_of(settings: SessionSettings, *, ahead: bool = False) -> ReplyOptions:
    """How a reply is to be made; `ahead`: of the end of its turn."""
    limit = settings.max_output_tokens
    return ReplyOptions(None if limit == "inf" else limit, speculative=ahead)


def offered_in(prompt: Prompt) -> frozenset[str]:
    """The names of the functions that may be called in a reply."""
    if prompt.tool_choice == "none":
        return frozenset()
    return frozenset(tool.name for tool in prompt.tools)


@cache
def _tell_that_tools_are_unused(model: str) -> None:
    # Stock clients define some whether they need them or not; once says it all.
    logger.warning("%s can't call functions: those that clients define are not used.", model)
