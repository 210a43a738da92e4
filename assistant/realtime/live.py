"""A RealtimeSession at work: carries out its effects and decides nothing.

Transports attach as sinks of events and feed in messages and audio; the session's own tasks (the
reply under way, the clock, silence in place of audio that stops coming) live in its task group.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import assert_never

import numpy as np
import orjson

from assistant import metrics
from assistant.engines.engine import ModelSession
from assistant.errors import ProtocolError
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
from assistant.realtime.replies import Replies
from assistant.realtime.session import RealtimeSession
from assistant.realtime.sink import EventSink
from assistant.tasks import task_group
from audio_io.continuity import AudioClock
from audio_io.pcm import SAMPLE_RATE_HZ, Int16Array
from audio_io.segmenter import SpeechSegmenter

# Speech detection takes 2 ms per second of audio: a large append is heard in slices, so that the
# other sessions on the event loop wait 0.2 ms and not a minute's worth.
SLICE_MS = 100
# Of a burst, so many are taken before others go on: a few ms. A stream of audio has fifty a second,
# for each of which a way through the event loop would cost a seventh of its CPU time.
BURST_MESSAGES = 8


def now_ms() -> int:
    """The clock that sessions live by: the event loop's, which tests can turn."""
    return int(asyncio.get_running_loop().time() * 1000)


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
        self._segmenter = segmenter
        self._max_message_bytes = max_message_bytes
        self._sinks: list[EventSink] = []
        self._sink_idle = asyncio.Event()
        self._replies = Replies(
            session, model, group, carry_out=self._carry_out, delivered=self._delivered
        )
        self._audio = AudioClock()
        self._received = 0
        self._turn_open = asyncio.Event()
        self._closed = asyncio.Event()
        self._deadline_ms = session.next_deadline_ms
        self._deadline_moved = asyncio.Event()
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

    @property
    def attached(self) -> int:
        """How many sinks get its events."""
        return len(self._sinks)

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
        # Of a burst of messages, the next is there already: nothing else would let others go on.
        self._received += 1
        if self._received % BURST_MESSAGES == 0:
            await asyncio.sleep(0)

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

    async def leave(self, reason: str) -> None:
        """Have the session end as soon as nothing is going on in it."""
        await self._carry_out(self._session.leave(reason))

    async def closed(self, sink: EventSink) -> None:
        """Return when the session has ended and `sink` has got its last event."""
        await self._closed.wait()
        await sink.drained()

    def close(self) -> None:
        """Let go of everything; called when the session's owner leaves."""
        self._closed.set()
        self._replies.close()
        for task in self._own_tasks:
            task.cancel()

    async def _feed(self, samples: Int16Array, sample_rate_hz: int) -> None:
        events = self._segmenter.feed(samples, sample_rate_hz)
        for event in events:
            await self._carry_out(self._session.heard(event))
        if events:
            self._watch_turn()

    def _watch_turn(self) -> None:
        if self._segmenter.speaking:
            self._turn_open.set()
        else:
            self._turn_open.clear()

    async def _carry_out(self, effects: list[Effect]) -> None:
        self._watch_deadline()
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
                    flushed = self._session.flushed(utterance, effect.event_id, idle=effect.idle)
                    await self._carry_out(flushed)
                case ClearHearing():
                    self._segmenter.clear()
                    self._watch_turn()
                case Prefill():
                    self._replies.prefill(effect.prompt)
                case StartReply():
                    self._replies.start(effect)
                case CommitReply():
                    self._replies.commit(effect.reply_id)
                case CancelReply():
                    self._replies.cancel(effect.reply_id)
                case Close():
                    self.close_reason = effect.reason
                    self._closed.set()
                case _:
                    assert_never(effect)

    async def _delivered(self) -> None:
        while self._sinks and not any(sink.idle for sink in self._sinks):
            self._sink_idle.clear()
            await self._sink_idle.wait()

    # Time.

    async def _keep_time(self) -> None:
        while (deadline_ms := self._session.next_deadline_ms) is not None:
            self._deadline_moved.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout((deadline_ms - now_ms()) / 1000):
                    await self._deadline_moved.wait()
            await self._carry_out(self._session.time(now_ms()))

    def _watch_deadline(self) -> None:
        if (deadline_ms := self._session.next_deadline_ms) != self._deadline_ms:
            self._deadline_ms = deadline_ms
            self._deadline_moved.set()

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
