"""Conversations that are sent whole each time, and which of those that are kept they go on in."""

from __future__ import annotations

import pytest

from assistant.chat.kept import KeptConversations
from assistant.chat.requests import Said
from assistant.engines.engine import Engine
from assistant.prompt import FunctionCall, FunctionOutput, Message
from tests.scripted_engine import ScriptedModel

MOST = 4


def kept_by(engine: Engine | None = None, most: int = MOST) -> KeptConversations:
    return KeptConversations(engine or ScriptedModel(), most)


class Client:
    """Sends the whole of its conversation each time, and keeps what is answered."""

    def __init__(self, conversations: KeptConversations, name: str, *said: Said) -> None:
        self._conversations = conversations
        self._name = name
        self.said = list(said)

    async def says(self, *said: Said, reply: tuple[Said, ...] = ()) -> int:
        """How many of its messages weren't known any more but for those that are new."""
        self.said += said
        sent = list(self.said)
        async with self._conversations.take(sent) as kept:
            forgotten = len(sent) - len(said) - len(kept.said)
            self.said += reply or (assistant(f"{self._name} hears {len(sent)}"),)
            for message in self.said[len(kept.said) :]:
                kept.add(message, Message("any", message.role, ()))
        return forgotten


def user(text: str) -> Said:
    return Said("user", (text,))


def assistant(text: str) -> Said:
    return Said("assistant", (text,))


INSTRUCTIONS = Said("system", ("Be brief.",))
EXAMPLES = (user("2 + 2"), assistant("4"), user("3 + 3"), assistant("6"))


@pytest.mark.parametrize("beginning", [(), (INSTRUCTIONS,), EXAMPLES], ids=len)
async def test_conversations_that_begin_the_same_leave_each_other_alone(
    beginning: tuple[Said, ...],
) -> None:
    conversations = kept_by()
    clients = [Client(conversations, name, *beginning) for name in ("a", "b", "c")]
    for client in clients:
        await client.says(user("Hello there."))
    # Until each has a place, they are taken for one that asks anew.
    for number in range(2):
        for client in clients:
            await client.says(user(f"And {number}?"))
    for number in range(2, 9):
        assert [await client.says(user(f"And {number}?")) for client in clients] == [0, 0, 0]


async def test_one_turn_with_many_calls_is_more_than_its_last_reply() -> None:
    conversations = kept_by()
    first, other = (Client(conversations, name) for name in ("a", "b"))

    async def calls(client: Client, name: str, number: int) -> int:
        """A reply that says something, and calls twice."""
        ids = [f"{name} {number}, {call}" for call in "xy"]
        made = [Said("assistant", (FunctionCall(id_, "look", "{}"),)) for id_ in ids]
        new = [Said("tool", (FunctionOutput(id_, "nothing"),)) for id_ in ids]
        asked = [user("Find it.")] if not number else []
        forgotten = await client.says(*asked, reply=(assistant("Well."), *made))
        client.said += new
        return forgotten

    for number in range(3):
        await calls(first, "a", number)
    for number in range(3):
        await calls(other, "b", number)
    # What came of the calls is new, and all else is known.
    assert [await calls(first, "a", 3), await calls(other, "b", 3)] == [2, 2]


async def test_what_was_said_last_is_said_otherwise_in_the_same_place() -> None:
    engine = CountingModel()
    client = Client(kept_by(engine), "a")
    for number in range(4):
        await client.says(user(f"And {number}?"))
    for words in ("Never mind.", "Go on.", "What else?"):
        del client.said[-2:]
        assert await client.says(user(words)) == 0
    assert engine.opened == 1


async def test_where_there_is_one_place_what_is_in_common_stays() -> None:
    engine = CountingModel()
    client = Client(kept_by(engine, most=1), "a")
    for number in range(4):
        await client.says(user(f"And {number}?"))
    del client.said[2:]
    assert await client.says(user("Back to that.")) == 0
    assert engine.opened == 1


class CountingModel(ScriptedModel):
    """Counts its sessions."""

    def __init__(self) -> None:
        super().__init__()
        self.opened = 0

    async def open_session(self) -> ScriptedModel:
        self.opened += 1
        return self
