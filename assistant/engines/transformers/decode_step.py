"""A decode step of few shapes: on a GPU it is recorded once, and then replayed as one launch.

A step computes a token of each of several slots: embeddings, decoder, head. Launched one by one,
its thousand small operations take longer than the weights take to be read. All that differs from
step to step is a row of numbers for each slot (which token, where it goes, which pages it sees),
and these rows lie where the recording finds them. The rows go to the device in one copy.

Batches are rounded up to a few sizes; rows that nobody has write to a page of their own. What
attention is told of the longest slot is rounded too: it decides only among how many parts of the
GPU the work is split.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch

from assistant.engines.transformers.attention import Feed, Table
from assistant.engines.transformers.model import Checkpoint
from assistant.engines.transformers.slots import Pool, Slot
from assistant.engines.transformers.step_sizes import BATCHES, lengths

# The columns of a row: a token, whether its prompt has audio, and its place. Behind them come the
# slot's pages.
ID, HEARS, PAGE, OFFSET, POSITION, COLUMNS = range(6)


class DecodeStep:
    """Steps of the slots of one pool, which attends by `PAGED`."""

    def __init__(
        self, checkpoint: Checkpoint, pool: Pool, batches: Sequence[int] = BATCHES
    ) -> None:
        self._checkpoint = checkpoint
        self._pool = pool
        self._batches = batches
        self._lengths = lengths(pool.capacity)
        shape = (batches[-1], COLUMNS + pool.pages_for(pool.capacity))
        self._rows = torch.zeros(shape, dtype=torch.int32)
        """Of each slot, the columns above and its pages, in this computer's own memory."""
        self._inputs = torch.zeros(shape, dtype=torch.int32, device=checkpoint.device)
        """The same on the device."""
        self._logits = torch.zeros((batches[-1], checkpoint.vocabulary), device=checkpoint.device)
        self._graphs: dict[tuple[int, int], torch.cuda.CUDAGraph] = {}

    @property
    def most(self) -> int:
        """How many slots it takes at once."""
        return self._batches[-1]

    def logits_after(
        self, slots: Sequence[Slot], ids: Sequence[int], hears: Sequence[bool]
    ) -> torch.Tensor:
        """Have each slot take in a token of text; `hears`: whether its prompt has audio.

        Takes `most` slots at most. Returns the logits of what follows, float32 (slots, vocabulary),
        which hold until the next step. Where it fails, nothing has been taken in. Raises
        EngineError where there are no pages left.
        """
        for slot in slots:
            slot.make_room(1)
        batch = self._batches[bisect_left(self._batches, len(slots))]
        longest = max(slot.length for slot in slots) + 1
        bucket = self._lengths[bisect_left(self._lengths, longest)]
        self._fill(slots, ids, hears, batch)
        if graph := self._graphs.get((batch, bucket)):
            graph.replay()
        else:
            self._compute(batch, bucket)
        for slot, id_ in zip(slots, ids, strict=True):
            slot.append(id_)
        return self._logits[: len(slots)]

    def record(self) -> None:
        """Record the steps of all sizes. Raises RuntimeError where the model can't be recorded."""
        self._fill([], [], [], self.most)
        self._refuse_waiting()
        memory = torch.cuda.graph_pool_handle()
        # The largest first, so that the others find room in what it has left.
        for batch in reversed(self._batches):
            for bucket in reversed(self._lengths):
                self._graphs[batch, bucket] = self._recorded(batch, bucket, memory)

    def forget(self) -> None:
        """Compute each step from now on, instead of replaying it."""
        self._graphs.clear()
        # What was theirs is for others.
        torch.cuda.empty_cache()

    def _refuse_waiting(self) -> None:
        """Raises RuntimeError where the model looks at a result in the middle of a step.

        A recording that is broken off for that may leave the device's random numbers unusable.
        """
        self._compute(self.most, self._lengths[-1])
        torch.cuda.set_sync_debug_mode("error")
        try:
            self._compute(self.most, self._lengths[-1])
        finally:
            torch.cuda.set_sync_debug_mode("default")

    def _recorded(self, batch: int, bucket: int, memory: Any) -> torch.cuda.CUDAGraph:
        # What a library does at its first call with these shapes is no part of the step.
        self._compute(batch, bucket)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with (
            _left_in_order(memory),
            torch.cuda.graph(graph, pool=memory, capture_error_mode="thread_local"),
        ):
            self._compute(batch, bucket)
        return graph

    def _fill(
        self, slots: Sequence[Slot], ids: Sequence[int], hears: Sequence[bool], batch: int
    ) -> None:
        rows, size = self._rows.numpy(), self._pool.page_tokens
        for row, slot, id_, hearing in zip(rows, slots, ids, hears, strict=False):
            whole, offset = divmod(slot.length, size)
            row[:COLUMNS] = id_, hearing, slot.pages[whole], offset, slot.length
            row[COLUMNS : COLUMNS + len(slot.pages)] = slot.pages
        rows[len(slots) : batch] = 0
        rows[len(slots) : batch, [PAGE, COLUMNS]] = self._pool.spare_page
        # From memory that isn't pinned, so that the rows may change as soon as this returns,
        # although the step that reads them has yet to run.
        self._inputs[:batch].copy_(self._rows[:batch])

    def _compute(self, batch: int, longest: int) -> None:
        """The step itself, from `_inputs` to `_logits`."""
        inputs = self._inputs[:batch]
        numbers = inputs[:, :COLUMNS].long()
        ids, hears, pages, offsets, positions = torch.split(numbers, 1, dim=1)
        held = inputs[:, POSITION] + 1
        table = Table.of(inputs[:, COLUMNS:], held, fed=1, page_tokens=self._pool.page_tokens)
        self._pool.fed = Feed(pages, offsets, positions, longest, table=table)
        marks = hears[:, 0].bool()
        self._logits[:batch] = self._checkpoint.step(ids, marks, positions, self._pool.cache)


@contextmanager
def _left_in_order(memory: Any) -> Iterator[None]:
    """Whatever fails, the stream is the one before, and nothing more goes to `memory`.

    torch stays in a recording that can't be ended: it computes on in its stream, and its allocator
    gives no memory back to the device.
    """
    stream = torch.cuda.current_stream()
    try:
        yield
    finally:
        if torch.cuda.current_stream() != stream:
            torch.cuda.set_stream(stream)
            # As `torch.cuda.use_mem_pool` does at its end; refused where the end failed after it.
            with suppress(RuntimeError):
                torch._C._cuda_endAllocateToPool(stream.device_index, memory)
                torch._C._cuda_releasePool(stream.device_index, memory)
