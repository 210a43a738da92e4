"""The server under load, on one core, which reports on itself: a line of JSON for each line read.

    python -m benchmarks.gateway.served CORE

The first line that it writes is its address.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from dataclasses import asdict, dataclass

import numpy as np

from assistant.config import Config
from assistant.serve import listen, make_server, spare_garbage_collection
from benchmarks.gateway.stages import StageSampler
from benchmarks.gateway.talker import Talker

TICK_S = 0.005
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Report:
    """What happened since the report before."""

    wall_s: float
    cpu_s: float
    main_thread_s: float
    """Of `cpu_s`; the rest is decoders of WebRTC, and detectors being made."""
    lag_p50_ms: float
    lag_p99_ms: float
    """How late the event loop was for whoever waited for a time."""
    rss_mib: float
    stages: dict[str, float]
    """s of the main thread's CPU time."""


class Meter:
    """Measures the process that it is in."""

    def __init__(self) -> None:
        self._lags_ms: list[float] = []
        self._sampler = StageSampler()
        self._sampler.start()
        self._since = _clocks()

    async def run(self) -> None:
        """Note how late the event loop is, until cancelled."""
        while True:
            due_s = time.perf_counter() + TICK_S
            await asyncio.sleep(TICK_S)
            self._lags_ms.append((time.perf_counter() - due_s) * 1000)

    def report(self) -> Report:
        now = _clocks()
        wall_s, cpu_s, main_thread_s = (b - a for a, b in zip(self._since, now, strict=True))
        p50, p99 = np.percentile(self._lags_ms or [0.0], [50, 99])
        report = Report(
            wall_s,
            cpu_s,
            main_thread_s,
            float(p50),
            float(p99),
            _rss_mib(),
            dict(self._sampler.seconds),
        )
        self._lags_ms.clear()
        self._sampler.seconds.clear()
        self._since = now
        return report


def _clocks() -> tuple[float, float, float]:
    return time.perf_counter(), time.process_time(), time.thread_time()


def _rss_mib() -> float:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * PAGE_BYTES / 2**20


async def serve() -> None:
    overrides = {"limits": {"max_sessions": 10_000}}
    server = make_server(Config.load(overrides=overrides), Talker())
    ended = asyncio.Event()
    with listen("127.0.0.1", 0) as listener:
        print(f"127.0.0.1:{listener.getsockname()[1]}", flush=True)
        spare_garbage_collection()
        meter = Meter()

        def answer() -> None:
            if os.read(0, 1):
                print(json.dumps(asdict(meter.report())), flush=True)
            else:
                ended.set()

        asyncio.get_running_loop().add_reader(0, answer)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        metering = asyncio.create_task(meter.run())
        await ended.wait()
        metering.cancel()
        server.should_exit = True
        await serving


if __name__ == "__main__":
    # Before threads are made, which inherit it.
    os.sched_setaffinity(0, {int(sys.argv[1])})
    asyncio.run(serve())
