"""How many conversations one core carries: the server on one core, its clients on the others.

    python -m benchmarks.gateway [--seconds 8] [--only 20ms|100ms|calls]

Clients of the websocket (24 kHz, chunks of 20 ms, then of 100 ms) and callers over WebRTC speak
human speech in real time; half of them speak at any time, speech detection runs, and each turn is
answered by 50 tokens at 25 a second, from an engine that costs nothing. As many as a core is to
carry come first; then their number grows until the server falls behind, or shrinks until it keeps
up. It falls behind where its event loop is more than 20 ms late in the 99th percentile, or an
event's answer takes longer than 100 ms. The stages are samples of what the main thread does.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np

from benchmarks.gateway.calls import CallLoad
from benchmarks.gateway.served import Report
from benchmarks.gateway.stages import NAMES
from benchmarks.gateway.streams import WebsocketLoad
from benchmarks.machine import machine

MAX_LAG_MS = 20.0
MAX_ANSWER_MS = 100.0
SETTLE_S = 2.0


class Load(Protocol):
    @property
    def clients(self) -> list[Any]: ...
    @property
    def latest_ms(self) -> float: ...
    async def connect(self, count: int) -> None: ...
    async def speak(self) -> None: ...
    async def close(self) -> None: ...


@dataclass(frozen=True)
class Step:
    """So many clients, for a while."""

    clients: int
    report: Report
    idle_rss_mib: float
    """Of the server, before any of them spoke."""
    answer_p99_ms: float
    tokens_per_s: float
    late_ms: float
    """How late the clients were at most."""

    @property
    def kept_up(self) -> bool:
        return self.report.lag_p99_ms <= MAX_LAG_MS and self.answer_p99_ms <= MAX_ANSWER_MS

    def ms_per_client_second(self, seconds: float) -> float:
        return seconds * 1000 / self.clients / self.report.wall_s


Ask = Callable[[], Awaitable[Report]]


@dataclass(frozen=True)
class Kind:
    """One way to talk to the server."""

    name: str
    make: Callable[[str], Load]
    """Of the server's address."""
    aim: int
    """How many of them a core is to carry."""
    step: int
    """How many more, or fewer, are tried next."""


KINDS = {
    "20ms": Kind("websocket, 20 ms chunks", partial(WebsocketLoad, chunk_ms=20), 150, 25),
    "100ms": Kind("websocket, 100 ms chunks", partial(WebsocketLoad, chunk_ms=100), 200, 50),
    "calls": Kind("WebRTC calls", CallLoad, 50, 25),
}


@asynccontextmanager
async def served(core: int) -> AsyncIterator[tuple[str, Ask]]:
    """A server on that core: its address, and how to ask for its report."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.gateway.served", str(core)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    stdin, stdout = process.stdin, process.stdout
    assert stdin is not None and stdout is not None

    async def ask() -> Report:
        stdin.write(b"\n")
        return Report(**json.loads(await stdout.readline()))

    try:
        yield (await stdout.readline()).decode().strip(), ask
    finally:
        stdin.close()
        await process.wait()


async def measure(load: Load, ask: Ask, count: int, seconds: float) -> Step:
    """Let so many clients speak for so long."""
    await load.connect(count)
    idle = await ask()
    speaking = asyncio.create_task(load.speak())
    await asyncio.sleep(SETTLE_S)
    tokens = -sum(client.tokens for client in load.clients)
    await ask()
    await asyncio.sleep(seconds)
    report = await ask()
    tokens += sum(client.tokens for client in load.clients)
    answers_s = await asyncio.gather(*(client.answer_s() for client in load.clients))
    late_ms = load.latest_ms
    speaking.cancel()
    await asyncio.wait([speaking])
    return Step(
        count,
        report,
        idle.rss_mib,
        float(np.percentile(answers_s, 99)) * 1000,
        tokens / report.wall_s,
        late_ms,
    )


async def ramp(core: int, kind: Kind, seconds: float) -> tuple[float, list[Step]]:
    """From the aim up until the server falls behind, or down until it keeps up.

    Each time with a new server. Returns its memory before there were any clients, in MiB, and the
    steps.
    """
    steps: list[Step] = []
    empty_mib, count = 0.0, kind.aim
    while count > 0:
        async with served(core) as (address, ask):
            empty_mib = (await ask()).rss_mib
            load = kind.make(address)
            steps.append(await measure(load, ask, count, seconds))
            await load.close()
        print(_line(steps[-1]), flush=True)
        if steps[-1].kept_up is not steps[0].kept_up:
            break
        count += kind.step if steps[0].kept_up else -kind.step
    return empty_mib, steps


def _line(step: Step) -> str:
    report = step.report
    verdict = "kept up" if step.kept_up else "fell behind"
    if step.late_ms > MAX_LAG_MS:
        verdict += f" (clients up to {step.late_ms:.0f} ms late)"
    return (
        f"  {step.clients:5d}   {report.cpu_s / report.wall_s:5.0%}"
        f"   {step.ms_per_client_second(report.cpu_s):6.2f} ms"
        f"   {report.lag_p50_ms:5.1f} {report.lag_p99_ms:6.1f} ms   {step.answer_p99_ms:6.1f} ms"
        f"   {step.tokens_per_s:6.0f}   {verdict}"
    )


def _details(empty_mib: float, steps: list[Step]) -> str:
    """Stages and memory, of the most clients that were kept up with."""
    best = max((s for s in steps if s.kept_up), key=lambda s: s.clients, default=steps[0])
    report = best.report
    other_threads_s = report.cpu_s - report.main_thread_s
    stages = [(name, report.stages.get(name, 0.0)) for name in NAMES]
    lines = [f"  of it, ms per client-second, with {best.clients}:"]
    lines += [
        f"    {name:<18} {best.ms_per_client_second(seconds):6.2f}"
        for name, seconds in [*stages, ("other threads", other_threads_s)]
        if seconds
    ]
    idle = (best.idle_rss_mib - empty_mib) / best.clients
    active = (report.rss_mib - empty_mib) / best.clients
    lines.append(f"  memory per client: idle {idle:.1f} MiB, active {active:.1f} MiB")
    return "\n".join(lines)


HEADER = "  clients  core  per client-s   lag p50    p99   answer p99   tokens/s"


async def run(kinds: list[Kind], seconds: float) -> None:
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, set(cores[1:]) or set(cores))
    print(f"gateway: {machine()}; server on one core, clients on {max(len(cores) - 1, 1)}")
    for kind in kinds:
        print(f"{kind.name}; {kind.aim} are the aim\n{HEADER}")
        empty_mib, steps = await ramp(cores[0], kind, seconds)
        print(_details(empty_mib, steps))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--only", choices=KINDS)
    args = parser.parse_args()
    if not hasattr(os, "sched_setaffinity"):
        sys.exit("gateway: only Linux lets server and clients have cores of their own")
    kinds = [KINDS[args.only]] if args.only else [*KINDS.values()]
    asyncio.run(run(kinds, args.seconds))


if __name__ == "__main__":
    main()
