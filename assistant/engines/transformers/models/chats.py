"""Chats brought into the form that a template insists on. Pure."""

from __future__ import annotations

from assistant.engines.transformers.models.architecture import Chat


def instructions_in_first_turn(messages: Chat) -> Chat:
    """What the system says is put before what the user says next, as text of the user's.

    For models that know no system, or none beside audio.
    """
    chat: Chat = []
    said: list[dict[str, str]] = []
    for message in messages:
        match message["role"]:
            case "system":
                said.append({"type": "text", "text": message["content"] + "\n\n"})
            case "user":
                chat.append({"role": "user", "content": [*said, *message["content"]]})
                said = []
            case _:
                chat.append(message)
    if said:
        chat.append({"role": "user", "content": said})
    return chat


def taking_turns(messages: Chat) -> Chat:
    """User and assistant by turns, the user first: what one of them says in a row is one message.

    For templates that refuse anything else. Takes no system messages.
    """
    chat: Chat = []
    for message in messages:
        if not chat and message["role"] != "user":
            chat.append({"role": "user", "content": []})
        if chat and chat[-1]["role"] == message["role"]:
            chat[-1] = {
                "role": message["role"],
                "content": chat[-1]["content"] + message["content"],
            }
        else:
            chat.append(message)
    return chat


def sounds_first(messages: Chat) -> Chat:
    """In each message, the sounds come before the texts: how some models were trained."""
    return [
        message
        if isinstance(message["content"], str)
        else {**message, "content": sorted(message["content"], key=lambda p: p["type"] != "audio")}
        for message in messages
    ]


def flat(messages: Chat, audio: str) -> Chat:
    """Each message's content as one text, in which `audio` stands for a sound.

    For templates that take texts alone, or place sounds otherwise than they were said.
    """
    return [
        message
        if isinstance(message["content"], str)
        else {
            "role": message["role"],
            "content": "".join(
                audio if part["type"] == "audio" else part["text"] for part in message["content"]
            ),
        }
        for message in messages
    ]
