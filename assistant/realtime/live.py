"""A RealtimeSession at work: carries out its effects and decides nothing.

Transports attach as sinks of events and feed in messages and audio; the session's own tasks (the
reply under way, the clock, silence in place of audio that stops coming) live in its task group.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from typing import assert_never

import numpy as np
import orjson

from assistant import metrics
from assistant.conversation import Prompt
from assistant.engines.engine import ModelSession, Reply, ReplyOptions, Text, TokenCount
from assistant.errors import EngineError, GaveWayError, PromptTooLongError, ProtocolError
from assistant.realtime.effects import (
    CancelReply,
    ClearHearing,
    Close,
    CommitReply,
    ConfigureHearing,
    Effect,
    Feed,
    FlushHearing,
    Prefill,
    Send,
    StartReply,
)
from assistant.realtime.events import Append, ClientEvent, parse_client_event
from assistant.realtime.session import RealtimeSession
from assistant.realtime.sink import EventSink
from assistant.tasks import task_group
from audio_io.continuity import AudioClock
from audio_io.pcm import SAMPLE_RATE_HZ, Int16Array
from audio_io.segmenter import SpeechEvent, SpeechSegmenter

logger = logging.getLogger(__name__)

# Speech detection takes 2 ms per second of audio: a large append is heard in slices, so that the
# other sessions on the event loop wait 0.2 ms and not a minute's worth.
SLICE_MS = 100


def now_ms() -> int:
    """The clock that sessions live by: the event loop's, which tests can turn."""
    return int(asyncio.get_running_loop().time() * 1000)


@dataclass(slots=True)
class _RunningReply:
    prompt: Prompt
    options: ReplyOptions
    reply: Reply
    task: asyncio.Task[None] | None = None


class LiveSession:
    """One conversation and the tasks that keep it going. Open it with `live_session`."""

    def __init__(
        self,
        session: RealtimeSession,
        model: ModelSession,
        segmenter: SpeechSegmenter,
        group: asyncio.TaskGroup,
        *,
        max_message_bytes: int,
    ) -> None:
        self._session = session
        self._model = model
        self._segmenter = segmenter
        self._group = group
        self._max_message_bytes = max_message_bytes
        self._sinks: list[EventSink] = []
        self._sink_idle = asyncio.Event()
        self._replies: dict[str, _RunningReply] = {}
        self._prefills: set[asyncio.Task[None]] = set()
        self._audio = AudioClock()
        self._turn_open = asyncio.Event()
        self._closed = asyncio.Event()
        self._own_tasks = [
            group.create_task(self._keep_time(), name="clock"),
            group.create_task(self._keep_hearing(), name="silence"),
        ]
        self.close_reason = "the session has ended"
        """Why the session closed, for those who are still attached."""
        self.takes_appends = True
        """Whether clients may append audio; not where it comes over a call."""

    @property
    def id(self) -> str:
        return self._session.id

    @contextmanager
    def attach(self, sink: EventSink) -> Iterator[None]:
        """Send every event to `sink` too, beginning with `session.created`."""
        sink.on_idle = self._sink_idle.set
        sink.put(_json(self._session.greeting()))
        self._sinks.append(sink)
        try:
            yield
        finally:
            self._sinks.remove(sink)
            self._sink_idle.set()

    async def receive(self, message: str | bytes) -> None:
        """A client's message. What is wrong with it is answered by an `error` event."""
        try:
            event = parse_client_event(message, max_bytes=self._max_message_bytes)
            self._check(event)
        except ProtocolError as error:
            await self._carry_out(self._session.refused(error))
        else:
            await self._carry_out(self._session.receive(event))

    def _check(self, event: ClientEvent) -> None:
        if isinstance(event, Append) and not self.takes_appends:
            raise ProtocolError(
                "This is a call, whose audio comes over WebRTC: nothing can be appended to it.",
                param="type",
                event_id=event.event_id,
            )

    async def hear(self, samples: Int16Array, sample_rate_hz: int) -> None:
        """Input audio: int16 (n,) or (n, channels)."""
        step = sample_rate_hz * SLICE_MS // 1000
        for start in range(0, len(samples), step):
            if start:
                await asyncio.sleep(0)
            # Slice by slice, so that what is still to be heard doesn't count as missing.
            heard = samples[start : start + step]
            self._audio.arrived(len(heard), sample_rate_hz, now_ms())
            await self._feed(heard, sample_rate_hz)

    async def closed(self, sink: EventSink) -> None:
        """Return when the session has ended and `sink` has got its last event."""
        await self._closed.wait()
        await sink.drained()

    def close(self) -> None:
        """Let go of everything; called when the session's owner leaves."""
        self._closed.set()
        replies = (running.task for running in self._replies.values())
        for task in (*self._own_tasks, *self._prefills, *filter(None, replies)):
            task.cancel()

    async def _feed(self, samples: Int16Array, sample_rate_hz: int) -> None:
        await self._heard(self._segmenter.feed(samples, sample_rate_hz))

    async def _heard(self, events: list[SpeechEvent]) -> None:
        for event in events:
            await self._carry_out(self._session.heard(event))
        self._watch_turn()

    def _watch_turn(self) -> None:
        if self._segmenter.speaking:
            self._turn_open.set()
        else:
            self._turn_open.clear()

    async def _carry_out(self, effects: list[Effect]) -> None:
        # Only Feed ever lets others run in between, and it comes alone: lists stay whole.
        for effect in effects:
            match effect:
                case Send():
                    event = _json(effect.event)
                    for sink in self._sinks:
                        sink.put(event)
                    metrics.sent(effect.event)
                case Feed():
                    await self.hear(effect.samples, effect.sample_rate_hz)
                case ConfigureHearing():
                    self._segmenter.configure(effect.detection)
                    self._watch_turn()
                case FlushHearing():
                    utterance = self._segmenter.flush()
                    self._watch_turn()
                    await self._carry_out(self._session.flushed(utterance, effect.event_id))
                case ClearHearing():
                    self._segmenter.clear()
                    self._watch_turn()
                case Prefill():
                    self._start_prefill(effect.prompt)
                case StartReply():
                    self._start_reply(effect.reply_id, effect.prompt, effect.options)
                case CommitReply():
                    if running := self._replies.get(effect.reply_id):
                        running.options = replace(running.options, speculative=False)
                        running.reply.commit()
                case CancelReply():
                    if (running := self._replies.get(effect.reply_id)) and running.task:
                        running.task.cancel()
                case Close():
                    self.close_reason = effect.reason
                    self._closed.set()
                case _:
                    assert_never(effect)

    # The model.

    def _start_reply(self, reply_id: str, prompt: Prompt, options: ReplyOptions) -> None:
        running = _RunningReply(prompt, options, self._model.reply(prompt, options))
        self._replies[reply_id] = running
        running.task = self._group.create_task(
            self._reply(reply_id, running), name=f"reply {reply_id}"
        )
        running.task.add_done_callback(lambda _: self._replies.pop(reply_id, None))

    async def _reply(self, reply_id: str, running: _RunningReply) -> None:
        """Pass a reply's events on, no faster than a client takes them.

        So what the session has shown is what was delivered, and an interruption cuts there.
        """
        try:
            while not await self._said_all(reply_id, running):
                running.reply = self._model.reply(running.prompt, running.options)
        except EngineError as error:
            logger.warning("%s: the reply failed: %s", self.id, error)
            await self._carry_out(self._session.failed(reply_id, str(error)))
        except Exception:
            logger.exception("%s: the reply failed", self.id)
            reason = "The model failed unexpectedly; the server's log has the details."
            await self._carry_out(self._session.failed(reply_id, reason))
        finally:
            await running.reply.cancel()

    async def _said_all(self, reply_id: str, running: _RunningReply) -> bool:
        """Whether the reply came to its end; otherwise it is to be asked for again.

        Raises EngineError.
        """
        begun = False
        try:
            async for event in running.reply:
                begun = begun or isinstance(event, Text)
                await self._carry_out(self._session.generated(reply_id, event))
                await self._delivered()
        except PromptTooLongError as error:
            taken = TokenCount(error.text_tokens, error.audio_tokens)
            shorter = self._session.too_long(reply_id, taken)
            if shorter is None:
                raise
            running.prompt = shorter
            return False
        except GaveWayError:
            # While it is ahead nobody knows of it, and its turn's end will ask anew. If the turn
            # has ended just now, it is asked again, unless its first words have been shown.
            if running.options.speculative or begun:
                raise
            return False
        return True

    async def _delivered(self) -> None:
        while self._sinks and not any(sink.idle for sink in self._sinks):
            self._sink_idle.clear()
            await self._sink_idle.wait()

    def _start_prefill(self, prompt: Prompt) -> None:
        task = self._group.create_task(self._prefill(prompt), name="prefill")
        self._prefills.add(task)
        task.add_done_callback(self._prefills.discard)

    async def _prefill(self, prompt: Prompt) -> None:
        try:
            await self._model.prefill(prompt)
        except EngineError as error:
            # The reply will meet the same difficulty, and tell the client.
            logger.warning("%s: taking in a part of a turn failed: %s", self.id, error)
        except Exception:
            logger.exception("%s: taking in a part of a turn failed", self.id)

    # Time.

    async def _keep_time(self) -> None:
        while (deadline_ms := self._session.next_deadline_ms) is not None:
            await asyncio.sleep((deadline_ms - now_ms()) / 1000)
            await self._carry_out(self._session.time(now_ms()))

    async def _keep_hearing(self) -> None:
        """While a turn is open and no audio comes, let silence come in its place."""
        while True:
            await self._turn_open.wait()
            check_ms = self._audio.next_check_ms
            assert check_ms is not None, "a turn is open, so audio has arrived"
            await asyncio.sleep((check_ms - now_ms()) / 1000)
            missing = self._audio.missing(now_ms())
            if missing and self._turn_open.is_set():
                await self._feed(np.zeros(missing, np.int16), SAMPLE_RATE_HZ)


@asynccontextmanager
async def live_session(
    session: RealtimeSession,
    model: ModelSession,
    segmenter: SpeechSegmenter,
    *,
    max_message_bytes: int,
) -> AsyncIterator[LiveSession]:
    """Keep `session` going for as long as the context is open; then nothing of it remains."""
    async with task_group() as group:
        try:
            live = LiveSession(
                session, model, segmenter, group, max_message_bytes=max_message_bytes
            )
            try:
                yield live
            finally:
                live.close()
        finally:
            # Before the tasks are waited for: a reply that was cancelled waits for the model.
            await model.close()


def _json(event: dict[str, object]) -> str:
    return orjson.dumps(event).decode()
