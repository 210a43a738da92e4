"""Functions, calls of them and their outputs, as chat templates take them. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from assistant.engines.transformers.call_formats import taught
from assistant.engines.transformers.models.architecture import Chat
from assistant.prompt import FunctionCall, Part, Prompt, written_in

HELD = "\ufdd2"
"""A noncharacter of Unicode, which is in no text from outside."""
_HOLDER = HELD * 2


class Functions:
    """What one chat template makes of them."""

    def __init__(self, template: str, cut: Callable[[str], str]) -> None:
        """`cut` changes a text that spells control tokens, so that it stays text."""
        self.form = taught(template)
        """How the model writes calls; None: it can't be told of functions."""
        self._template_writes_calls = "tool_calls" in template
        self._cut = cut

    def offered(self, prompt: Prompt) -> list[dict[str, Any]]:
        """Those of a prompt; none where none may be called."""
        if prompt.tool_choice == "none" or not self.form:
            return []
        return [
            {
                "type": "function",
                "function": self._cut_throughout(
                    {
                        "name": tool.name,
                        "description": tool.description,
                        "parameters": tool.parameters,
                    }
                ),
            }
            for tool in prompt.tools
        ]

    def call(self, call: FunctionCall) -> dict[str, Any] | None:
        """A call for the template to write; None: it is text among what is said.

        Where it has tokens of its own, they are among what is said in any case.
        """
        if not (self.form and self._template_writes_calls):
            return None
        arguments = self._cut_throughout(_parsed(call.arguments))
        if call.token_ids:
            if not self.form.holds_outputs:
                return None
            arguments = _HOLDER
        function = {"name": self._cut(call.name), "arguments": arguments}
        return {"type": "function", "id": self._cut(call.call_id), "function": function}

    def texts(self, part: Part) -> Iterator[str]:
        """What a part is among what is said, without tokens of its own."""
        if isinstance(part, FunctionCall) and self.form:
            yield self.form.call(self._cut(part.name), self._cut(part.arguments))
        else:
            yield from map(self._cut, written_in(part))

    def hold(self, chat: Chat) -> None:
        """Where templates write the outputs of those calls alone that they write: put what is said
        up to a call into its arguments. `release` takes it out again."""
        for message in chat:
            for call in message.get("tool_calls", ()):
                if call["function"]["arguments"] == _HOLDER:
                    call["function"]["arguments"] = f"{HELD}{message['content']}{HELD}"
                    message["content"] = ""

    def release(self, text: str) -> str:
        """What the template has made of a chat, with what was said in the place of such calls."""
        if not (self.form and self.form.holds_outputs):
            return text
        begin = re.escape(self.form.begin + self.form.before_name)
        call = f"{begin}[^{{]*{{{HELD}(.*?){HELD}}}{re.escape(self.form.end)}"
        return re.sub(call, r"\1", text, flags=re.DOTALL)

    def _cut_throughout(self, value: Any) -> Any:
        """JSON in which no text spells a control token."""
        match value:
            case str():
                return self._cut(value)
            case list():
                return [self._cut_throughout(item) for item in value]
            case dict():
                return {self._cut(key): self._cut_throughout(item) for key, item in value.items()}
            case _:
                return value


def _parsed(arguments: str) -> Any:
    try:
        return json.loads(arguments)
    except json.JSONDecodeError:
        return arguments
