"""The functions that a client offers to the model. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal, assert_never

from pydantic import ConfigDict, Field

from assistant.errors import ProtocolError
from assistant.prompt import OneTool, Tool, ToolChoice
from assistant.realtime.client_model import ClientModel

MAX_NAME_CHARS = 128
MAX_TOOLS = 128

Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME_CHARS)]


class FunctionTool(ClientModel):
    """A function, described for the model. Frameworks add fields that say nothing to it."""

    model_config = ConfigDict(extra="ignore")

    type: Literal["function"]
    name: Name
    description: str | None = None
    parameters: dict[str, Any] | None = None
    """A JSON schema; None: it takes none."""


class NamedFunction(ClientModel):
    """The one to be called."""

    type: Literal["function"]
    name: Name


Tools = Annotated[list[FunctionTool], Field(max_length=MAX_TOOLS)]
AskedToolChoice = Literal["auto", "none", "required"] | NamedFunction


def tools_of(tools: list[FunctionTool]) -> tuple[Tool, ...]:
    """The same, as prompts have them."""
    return tuple(Tool(tool.name, tool.description or "", tool.parameters or {}) for tool in tools)


def tool_choice_of(asked: AskedToolChoice) -> ToolChoice:
    """The same, as prompts have it."""
    match asked:
        case "auto" | "none" | "required":
            return asked
        case NamedFunction():
            return OneTool(asked.name)
        case _:
            assert_never(asked)


def check_tool_choice(choice: ToolChoice, offered: Iterable[Tool], *, param: str) -> None:
    """Raise ProtocolError where `choice`, found at `param`, demands what isn't `offered`."""
    names = {tool.name for tool in offered}
    match choice:
        case OneTool(name) if name not in names:
            raise ProtocolError(
                f"Invalid value for '{param}': there is no function {name!r} among the tools.",
                param=param,
            )
        case "required" if not names:
            raise ProtocolError(
                f"Invalid value for '{param}': 'required', and there are no tools.", param=param
            )
