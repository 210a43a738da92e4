"""What the model is at for one session: each reply a task, passed on as fast as it is taken."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from assistant.engines.engine import ModelSession, Reply, Text, TokenCount, ToolCall
from assistant.errors import EngineError, GaveWayError, PromptTooLongError
from assistant.prompt import Prompt
from assistant.realtime.effects import Effect, StartReply
from assistant.realtime.session import RealtimeSession

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Running:
    start: StartReply
    """As it would be asked for now."""
    reply: Reply
    task: asyncio.Task[None] | None = None


class Replies:
    """The replies under way, and the prefills."""

    def __init__(
        self,
        session: RealtimeSession,
        model: ModelSession,
        group: asyncio.TaskGroup,
        *,
        carry_out: Callable[[list[Effect]], Awaitable[None]],
        delivered: Callable[[], Awaitable[None]],
    ) -> None:
        """`carry_out` does what comes of a reply's event; `delivered` then waits for a client to
        have taken it."""
        self._session = session
        self._model = model
        self._group = group
        self._carry_out = carry_out
        self._delivered = delivered
        self._running: dict[str, _Running] = {}
        self._prefills: set[asyncio.Task[None]] = set()

    def start(self, start: StartReply) -> None:
        """Ask the model."""
        running = _Running(start, self._ask(start))
        self._running[start.reply_id] = running
        running.task = self._group.create_task(self._reply(running), name=f"reply {start.reply_id}")
        running.task.add_done_callback(lambda _: self._running.pop(start.reply_id, None))

    def commit(self, reply_id: str) -> None:
        """It is wanted."""
        if running := self._running.get(reply_id):
            options = replace(running.start.options, speculative=False)
            running.start = replace(running.start, options=options)
            running.reply.commit()

    def cancel(self, reply_id: str) -> None:
        """It is not."""
        if (running := self._running.get(reply_id)) and running.task:
            running.task.cancel()

    def prefill(self, prompt: Prompt) -> None:
        """Let the model take this in."""
        task = self._group.create_task(self._prefill(prompt), name="prefill")
        self._prefills.add(task)
        task.add_done_callback(self._prefills.discard)

    def close(self) -> None:
        """Stop everything."""
        replies = (running.task for running in self._running.values())
        for task in (*self._prefills, *filter(None, replies)):
            task.cancel()

    def _ask(self, start: StartReply) -> Reply:
        return self._model.reply(start.prompt, start.options, side=start.side)

    async def _reply(self, running: _Running) -> None:
        """Pass a reply's events on, no faster than a client takes them.

        So what the session has shown is what was delivered, and an interruption cuts there.
        """
        session, reply_id = self._session, running.start.reply_id
        try:
            while not await self._said_all(running):
                running.reply = self._ask(running.start)
        except EngineError as error:
            logger.warning("%s: the reply failed: %s", session.id, error)
            await self._carry_out(session.failed(reply_id, str(error)))
        except Exception:
            logger.exception("%s: the reply failed", session.id)
            reason = "The model failed unexpectedly; the server's log has the details."
            await self._carry_out(session.failed(reply_id, reason))
        finally:
            await running.reply.cancel()

    async def _said_all(self, running: _Running) -> bool:
        """Whether the reply came to its end; otherwise it is to be asked for again.

        Raises EngineError.
        """
        begun = False
        reply_id = running.start.reply_id
        try:
            async for event in running.reply:
                begun = begun or isinstance(event, Text | ToolCall)
                await self._carry_out(self._session.generated(reply_id, event))
                await self._delivered()
        except PromptTooLongError as error:
            taken = TokenCount(error.text_tokens, error.audio_tokens)
            shortened = self._session.too_long(reply_id, taken)
            if shortened is None:
                raise
            prompt, effects = shortened
            running.start = replace(running.start, prompt=prompt)
            await self._carry_out(effects)
            return False
        except GaveWayError:
            # While it is ahead nobody knows of it, and its turn's end will ask anew. If the turn
            # has ended just now, it is asked again, unless its first words have been shown.
            if running.start.options.speculative or begun:
                raise
            return False
        return True

    async def _prefill(self, prompt: Prompt) -> None:
        try:
            await self._model.prefill(prompt)
        except EngineError as error:
            # The reply will meet the same difficulty, and tell the client.
            logger.warning("%s: taking in a part of a turn failed: %s", self._session.id, error)
        except Exception:
            logger.exception("%s: taking in a part of a turn failed", self._session.id)
