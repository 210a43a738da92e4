"""The worker that owns the model: requests in, tokens out, one step at a time.

A decode step is for all replies at once; between two of them, a part of one prompt is taken in, and
nobody who is being answered waits for more. A reply that is begun ahead of its turn's end adds
little to a step that others need anyway, so it isn't held back for them.

It runs in a thread or in a process of its own, and knows of the world only its socket. Nothing here
imports torch before `work` runs, so that a server whose worker is a process never does.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, assert_never

from assistant.engines.engine import ReplyEvent, Text, TokenCount
from assistant.engines.transformers.channel import Channel
from assistant.engines.transformers.failures import DeviceLostError, is_sticky, told
from assistant.engines.transformers.library_logs import leave_out_progress, leave_out_torchao
from assistant.engines.transformers.messages import (
    Answer,
    Cancel,
    Commit,
    Count,
    Ended,
    Forget,
    Generate,
    Hear,
    Load,
    Loaded,
    Ping,
    Pong,
    Refused,
    ToWorker,
    audio_of,
)
from assistant.engines.transformers.naming import model_name
from assistant.errors import EngineError, GaveWayError, PromptTooLongError

if TYPE_CHECKING:
    from assistant.engines.transformers.generation import Generation, Generator
    from assistant.engines.transformers.memory import Conversation

logger = logging.getLogger(__name__)


def work(sock: socket.socket) -> None:
    """Load what the first message names, then serve requests until the other end closes."""
    with Channel(sock) as channel, suppress(EOFError, ConnectionError):
        load = channel.receive()
        assert isinstance(load, Load)
        try:
            generator, loaded = _load(load)
            channel.send(loaded)
            import torch

            # Entered once, since at each step it would take longer than to choose a token.
            with torch.inference_mode():
                Worker(channel, generator).serve()
        except EngineError as error:
            channel.send(Refused(str(error)))
            channel.flush()


def _load(load: Load) -> tuple[Generator, Loaded]:
    if load.settings.weights == "full":
        leave_out_torchao()
    try:
        from assistant.engines.transformers.generation import Generator
        from assistant.engines.transformers.model import load as load_checkpoint
    except Exception as error:
        # Libraries that don't fit together, or lack a file, raise most kinds.
        raise EngineError(
            f"The transformers engine can't be imported: {told(error)}. Install what it needs "
            f"with: make run MODEL={load.model}, or pip install 'streaming-voice-assistant[gpu]'"
        ) from error
    leave_out_progress()
    checkpoint = load_checkpoint(load.model, load.settings)
    try:
        generator = Generator(checkpoint, load.settings)
        generator.warm_up()
        info = generator.info(model_name(load.model))
        on_gpu = checkpoint.device.type == "cuda"
        return generator, Loaded(info, generator.renderer.functions.form, on_gpu)
    except Exception as error:
        logger.debug("what is loaded can't answer", exc_info=True)
        reason = told(error)
        raise EngineError(f"{load.model} is loaded, but can't answer: {reason}.") from error


class Worker:
    """Serves requests with a loaded model."""

    def __init__(self, channel: Channel, generator: Generator) -> None:
        self._channel = channel
        self._generator = generator
        self._memory = generator.memory
        self._generations: dict[int, Generation] = {}
        """By request; the one whose prompt was served longest ago comes first."""

    def serve(self) -> None:
        """Raises EOFError or ConnectionError when the other end has gone, DeviceLostError when
        the device has."""
        while True:
            able = self._able()
            going = [reply for reply in able if reply.going]
            self._decode(going)
            # Nobody's token waits for another's prompt.
            self._channel.flush()
            if len(going) < len(able):
                # Only a part, for which those who are being answered wait.
                self._prefill([reply for reply in able if not reply.going])
                self._channel.flush()

    def _able(self) -> list[Generation]:
        """Who can go on, now that all that was asked is taken; where that is nobody, wait."""
        while True:
            replies = self._generations.values()
            able = [reply for reply in replies if not reply.waits and not reply.blocked]
            if len(able) < len(replies) and self._make_way():
                continue
            if able and not self._channel.waiting:
                return able
            self._take(self._channel.receive())

    def _decode(self, going: Sequence[Generation]) -> None:
        """All replies whose prompts are in go on by a token, as many together as can."""
        most = self._generator.most_together
        for first in range(0, len(going), most):
            self._decode_together(going[first : first + most])

    def _decode_together(self, replies: Sequence[Generation]) -> None:
        if len(replies) > 1:
            try:
                tokens = self._generator.tokens_after(replies)
            except Exception as error:
                _check_device(error)
                # Whoever fails alone too fails, and no other.
                logger.warning("%d replies take a step alone each: %s.", len(replies), told(error))
            else:
                for reply, token in zip(replies, tokens, strict=True):
                    self._advance(reply, partial(reply.take, token))
                return
        for reply in replies:
            self._advance(reply, reply.step)

    def _prefill(self, waiting: Sequence[Generation]) -> None:
        """One prompt is taken in by a part: a turn that has ended comes before one that hasn't."""
        reply = min(waiting, key=lambda reply: not reply.committed)
        # The next time it is another's turn.
        self._generations[reply.request_id] = self._generations.pop(reply.request_id)
        self._advance(reply, reply.step)

    def _make_way(self) -> bool:
        """Where a reply that is waited for finds no place, one that was begun ahead goes.

        Returns whether one went.
        """
        replies = self._generations.values()
        if any(reply.committed and reply.blocked for reply in replies):
            ahead = (reply.request_id for reply in replies if reply.begun and not reply.committed)
            if (request_id := next(ahead, None)) is not None:
                self._end(request_id, GaveWayError("It gave way to a reply that is waited for."))
                return True
        return False

    def _advance(self, reply: Generation, step: Callable[[], Sequence[ReplyEvent]]) -> None:
        try:
            for event in step():
                if isinstance(event, Text):
                    self._channel.say(reply.request_id, event)
                else:
                    self._channel.send(Answer(reply.request_id, event))
            if reply.done:
                self._end(reply.request_id)
        except Exception as error:
            self._fail(reply.request_id, error)

    def _take(self, message: ToWorker) -> None:
        match message:
            case Hear():
                self._memory.of(message.session_id).samples[message.digest] = message.samples
            case Count():
                self._count(message)
            case Generate():
                self._start(message)
            case Commit():
                if message.request_id in self._generations:
                    self._generations[message.request_id].committed = True
            case Cancel():
                if message.request_id in self._generations:
                    self._end(message.request_id)
            case Forget():
                self._forget(message.session_id)
            case Ping():
                self._channel.send(Pong())
            case Load():
                raise AssertionError("only the first message loads")
            case _:
                assert_never(message)

    def _end(self, request_id: int, failure: Exception | None = None) -> None:
        if generation := self._generations.pop(request_id, None):
            generation.close()
        match failure:
            case None:
                ended = Ended(request_id)
            case PromptTooLongError():
                taken = TokenCount(failure.text_tokens, failure.audio_tokens)
                ended = Ended(request_id, str(failure), too_long=taken)
            case EngineError():
                ended = Ended(request_id, str(failure), gave_way=isinstance(failure, GaveWayError))
            case _:
                ended = Ended(request_id, f"The model failed: {told(failure)}.")
        self._channel.send(ended)

    def _forget(self, session_id: int) -> None:
        for request_id, generation in list(self._generations.items()):
            if generation.session_id == session_id:
                self._end(request_id)
        self._memory.forget(session_id)

    def _start(self, request: Generate) -> None:
        try:
            conversation = self._declared(request)
            generation = self._generator.start(request, conversation)
            self._generations[request.request_id] = generation
        except Exception as error:
            self._fail(request.request_id, error)

    def _count(self, request: Count) -> None:
        try:
            conversation = self._memory.of(request.session_id)
            rendered = self._generator.renderer.render(request.prompt, conversation.samples)
            self._channel.send(Answer(request.request_id, rendered.count))
            self._end(request.request_id)
        except Exception as error:
            self._fail(request.request_id, error)

    def _fail(self, request_id: int, error: Exception) -> None:
        """What has gone wrong fails this request, and no other.

        Raises what concerns all of them: EOFError, ConnectionError, DeviceLostError.
        """
        if isinstance(error, EOFError | ConnectionError):
            raise error
        if not isinstance(error, EngineError):
            _check_device(error)
            logger.error("a request failed", exc_info=error)
        self._end(request_id, error)

    def _declared(self, request: Generate) -> Conversation:
        """The conversation that a prompt is of; a main reply leaves it only that prompt's audio."""
        conversation = self._memory.of(request.session_id)
        if not request.side:
            conversation.drop_audio(set(audio_of(request.prompt)))
        return conversation


def _check_device(error: Exception) -> None:
    """Raises DeviceLostError where no request after this one could be answered."""
    if is_sticky(error):
        raise DeviceLostError(told(error)) from error
