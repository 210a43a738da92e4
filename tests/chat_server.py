"""Test vocabulary: a server with OpenAI's chat completions that fails as it is told to.

It streams over a real socket, keeps every request, and knows when its client has left.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

import uvicorn

from assistant.serve import listen

Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]

Says = str | dict[str, Any]


@dataclass
class Answer:
    """What becomes of one request."""

    says: tuple[Says, ...] = ()
    """Texts, or whole events of the stream."""
    then: str = "ends"
    """ends | cuts the connection | stalls, until the client leaves | closes without a reason."""
    finish_reason: str = "stop"
    usage: dict[str, Any] | None = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    error: Any = None
    """The body, where the status isn't 200."""


@dataclass
class ChatServer:
    """Gives its answers in order, and then greets."""

    address: str = ""
    models: list[dict[str, Any]] = field(default_factory=lambda: [{"id": "parrot"}])
    models_status: int = 200
    models_body: Any = None
    """What is answered in place of them, where it isn't as documented."""
    answers: deque[Answer] = field(default_factory=deque)
    requests: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    left: int = 0
    """Clients that left before the end."""
    path: ClassVar[str] = "/v1/chat/completions"
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)

    @property
    def base_url(self) -> str:
        return f"http://{self.address}/v1"

    def will(self, *says: Says, **how: Any) -> None:
        """Answer the next request so."""
        self.answers.append(Answer(says, **how))

    async def asked(self, times: int) -> None:
        """Wait until so many requests have come."""
        async with self._news:
            await self._news.wait_for(lambda: len(self.requests) >= times)

    async def was_left(self, times: int) -> None:
        """Wait until so many clients have left in the middle."""
        async with self._news:
            await self._news.wait_for(lambda: self.left >= times)

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        headers = dict(scope["headers"])
        self.keys.append(headers[b"authorization"].decode())
        if scope["path"] == "/v1/models":
            body = self.models_body
            if body is None:
                body = {"object": "list", "data": self.models}
            await _send_json(send, self.models_status, body)
            return
        assert scope["path"] == self.path
        self.requests.append(json.loads(await _body(receive)))
        await self._tell()
        answer = self.answers.popleft() if self.answers else Answer(("Hello.",))
        if answer.status != 200:
            await _send_json(send, answer.status, answer.error, answer.headers)
            return
        if answer.says or answer.then != "stalls":
            await _start(send, 200, "text/event-stream")
        for said in answer.says:
            await _send_event(send, self.chunk(said) if isinstance(said, str) else said)
        match answer.then:
            case "ends":
                for event in self.ending(answer):
                    await _send_event(send, event)
                await _send(send, "data: [DONE]\n\n", more=False)
            case "closes":
                await _send(send, "", more=False)
            case "stalls":
                while (await receive())["type"] != "http.disconnect":
                    pass
                self.left += 1
                await self._tell()
            case "cuts":
                # Returning in the middle of a response makes uvicorn cut the connection.
                return

    def chunk(self, text: str | None, finish_reason: str | None = None) -> dict[str, Any]:
        """An event of the stream."""
        delta = {} if text is None else {"role": "assistant", "content": text}
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "parrot"}
        return {**head, "created": 1, "choices": [choice]}

    def ending(self, answer: Answer) -> list[dict[str, Any]]:
        """The stream's last events."""
        last = [self.chunk(None, answer.finish_reason)]
        if answer.usage:
            last.append({**self.chunk(""), "choices": [], "usage": answer.usage})
        return last

    async def _tell(self) -> None:
        async with self._news:
            self._news.notify_all()


S = TypeVar("S", bound=ChatServer)


@asynccontextmanager
async def chat_server(kind: type[S] = ChatServer) -> AsyncIterator[S]:
    """A server on a free port of 127.0.0.1."""
    chat = kind()
    listener = listen("127.0.0.1", 0)
    chat.address = f"127.0.0.1:{listener.getsockname()[1]}"
    config = uvicorn.Config(chat, lifespan="off", log_level="critical", timeout_graceful_shutdown=1)
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    # Started and stopped by hand: its own ways look ten times a second whether to go on.
    await server.startup(sockets=[listener])
    try:
        yield chat
    finally:
        for listening in server.servers:
            listening.close()
        for connection in list(server.server_state.connections):
            connection.shutdown()
        if running := server.server_state.tasks:
            await asyncio.wait(running)


async def _body(receive: Receive) -> bytes:
    body = b""
    while True:
        event = await receive()
        body += event.get("body", b"")
        if not event.get("more_body"):
            return body


async def _start(send: Send, status: int, kind: str, headers: dict[str, str] | None = None) -> None:
    pairs = {"content-type": kind, **(headers or {})}
    encoded = [(name.encode(), value.encode()) for name, value in pairs.items()]
    await send({"type": "http.response.start", "status": status, "headers": encoded})


async def _send(send: Send, text: str, *, more: bool) -> None:
    await send({"type": "http.response.body", "body": text.encode(), "more_body": more})


async def _send_event(send: Send, event: dict[str, Any]) -> None:
    await _send(send, f"data: {json.dumps(event)}\n\n", more=True)


async def _send_json(
    send: Send, status: int, body: Any, headers: dict[str, str] | None = None
) -> None:
    await _start(send, status, "application/json", headers)
    await _send(send, json.dumps(body), more=False)
