"""Decode steps recorded, replayed, and given up, on a GPU that isn't there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import pytest
import torch

from assistant.engines.engine import Text
from assistant.engines.transformers.decode_step import DecodeStep
from assistant.engines.transformers.fast_steps import fast_steps
from assistant.engines.transformers.model import Checkpoint
from assistant.engines.transformers.step_sizes import lengths
from tests.dialogue import prompt, user
from tests.model_card import ModelCard
from tests.test_transformers_failures import of_the_device
from tests.test_transformers_session import check, events_of, generator_of, start
from tests.test_transformers_steps import card as card
from tests.test_transformers_steps import checkpoint as checkpoint
from tests.test_transformers_steps import kernel as kernel


class Recording:
    """What stands for a recorded step here: it computes the step again."""

    replayed = 0

    def __init__(self) -> None:
        self.again: Callable[[], None]

    def replay(self) -> None:
        Recording.replayed += 1
        self.again()


class Gpu:
    """What of a GPU recording changes: the stream, the recordings under way, and memory.

    `fails_at`: at which recording `error` is raised, and whether it can be ended then.
    """

    def __init__(self, fails_at: int, error: Exception, *, ends: bool) -> None:
        self.left, self.error, self.ends = fails_at, error, ends
        self.stream = "its own"
        self.under_way: list[object] = []
        self.released: list[object] = []
        self.recording: Recording | None = None
        self.emptied = 0

    @contextmanager
    def graph(self, recording: Recording, pool: object, capture_error_mode: str) -> Iterator[None]:
        self.stream, self.recording = "that of recordings", recording
        self.under_way.append(pool)
        try:
            yield
            self.left -= 1
            if not self.left:
                raise self.error
        finally:
            self.recording = None
            if not self.left and not self.ends:
                raise RuntimeError("operation failed due to a previous error during capture")
            self.under_way.remove(pool)
            self.stream = "its own"

    def compute(self, step: DecodeStep, batch: int, longest: int) -> None:
        again = partial(REAL_COMPUTE, step, batch, longest)
        if self.recording:
            self.recording.again = again
        again()

    def end(self, device: int, pool: object) -> None:
        if pool not in self.under_way:
            raise RuntimeError("endAllocatePool: not currently recording to mempool_id")
        self.under_way.remove(pool)

    def empty_cache(self) -> None:
        assert not self.under_way
        self.emptied += 1


REAL_COMPUTE = DecodeStep._compute


@pytest.fixture
def gpu(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Gpu:
    gpu = Gpu(*request.param[:2], ends=request.param[2])

    class Stream(str):
        device_index = 0

    def choose(stream: str) -> None:
        gpu.stream = str(stream)

    Recording.replayed = 0
    for name, double in (
        ("CUDAGraph", Recording),
        ("graph", gpu.graph),
        ("graph_pool_handle", lambda: (0, 1)),
        ("current_stream", lambda: Stream(gpu.stream)),
        ("set_stream", choose),
        ("synchronize", lambda: None),
        ("set_sync_debug_mode", lambda mode: None),
        ("empty_cache", gpu.empty_cache),
    ):
        monkeypatch.setattr(torch.cuda, name, double)
    monkeypatch.setattr(torch._C, "_cuda_endAllocateToPool", gpu.end)
    monkeypatch.setattr(
        torch._C, "_cuda_releasePool", lambda device, pool: gpu.released.append(pool)
    )
    monkeypatch.setattr(DecodeStep, "_compute", lambda *args: gpu.compute(*args))
    return gpu


@pytest.mark.parametrize("gpu", [(100, RuntimeError(), True)], indirect=True)
def test_recorded_steps_are_replayed(
    checkpoint: Checkpoint, card: ModelCard, caplog: pytest.LogCaptureFixture, gpu: Gpu
) -> None:
    generator = generator_of(checkpoint, 100, 16)
    generator.decode_step = fast_steps(checkpoint, generator.memory.pool, "recorded", (1, 2, 4))
    assert generator.decode_step and not caplog.records
    assert gpu.left == 100 - 3 * len(lengths(1600)) and not gpu.emptied
    tried = Recording.replayed
    hello = prompt(user("Hello."))
    events = events_of(start(generator, hello))
    check(card, hello, events)
    # The first token is of the prompt.
    assert Recording.replayed - tried == len([e for e in events if isinstance(e, Text)]) - 1


@pytest.mark.parametrize(
    "gpu",
    [(2, torch.OutOfMemoryError("Out of it."), True), (2, RuntimeError("Of it."), False)],
    ids=["a recording that fails", "a recording that can't be ended"],
    indirect=True,
)
def test_a_recording_that_fails_leaves_nothing_behind(
    checkpoint: Checkpoint, card: ModelCard, caplog: pytest.LogCaptureFixture, gpu: Gpu
) -> None:
    generator = generator_of(checkpoint, 100, 16)
    generator.decode_step = fast_steps(checkpoint, generator.memory.pool, "recorded", (1, 2, 4))
    assert generator.decode_step
    (record,) = caplog.records
    assert record.message.startswith("Decode steps aren't recorded, and slower: ")
    assert (gpu.stream, gpu.under_way, gpu.emptied) == ("its own", [], 1)
    # What has been ended releases its memory itself.
    assert len(gpu.released) == (not gpu.ends)
    hello = prompt(user("Hello."))
    check(card, hello, events_of(start(generator, hello)))
    assert not Recording.replayed


@pytest.mark.parametrize("gpu", [(2, of_the_device(700), True)], indirect=True)
def test_a_device_that_is_lost_is_not_tried_on(checkpoint: Checkpoint, gpu: Gpu) -> None:
    with pytest.raises(torch.AcceleratorError):
        fast_steps(checkpoint, generator_of(checkpoint, 100, 16).memory.pool, "recorded", (4,))
