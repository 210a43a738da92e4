"""Where the main thread's CPU time goes, by stage: samples of what runs, every ms of CPU time."""

from __future__ import annotations

import signal
import sys
import time
from collections import Counter
from types import CodeType, FrameType

INTERVAL_S = 0.001
OTHER = "event loop, tasks"

# How a module's path begins, and a function in it where only that belongs to the stage. What runs
# inside of it belongs to the stage too, unless it has one of its own.
_UVICORN = "uvicorn/protocols/websockets/websockets_sansio_impl.py"
_STAGES = {
    "receive": [
        ("asyncio/selector_events.py", "_read_ready"),
        ("asyncio/selector_events.py", "_read_ready__data_received"),
        (_UVICORN, "data_received"),
        (_UVICORN, "receive"),
        ("starlette/websockets.py", "receive"),
        ("assistant/realtime/websocket.py", "_receive"),
    ],
    "WebRTC": [
        ("aiortc/", None),
        ("aioice/", None),
        ("audio_io/webrtc.py", None),
        ("audio_io/rtc_peer.py", None),
        ("audio_io/rtp.py", None),
    ],
    "JSON, base64": [
        ("assistant/client_json.py", None),
        ("assistant/realtime/events.py", None),
        ("assistant/realtime/items.py", "decode_pcm"),
        ("audio_io/pcm.py", None),
    ],
    "resample": [("audio_io/resampling.py", None)],
    "detect speech": [("audio_io/vad.py", None), ("audio_io/noise_gate.py", None)],
    "find turns": [
        ("audio_io/segmenter.py", None),
        ("audio_io/endpointer.py", None),
        ("audio_io/confirmation.py", None),
        ("audio_io/sample_buffer.py", None),
        ("audio_io/cutting.py", None),
        ("audio_io/continuity.py", None),
    ],
    "send": [
        ("assistant/realtime/live.py", "_json"),
        ("assistant/realtime/sink.py", None),
        (_UVICORN, "send"),
        ("starlette/websockets.py", "send"),
        ("audio_io/rtc_peer.py", "send"),
        ("assistant/realtime/calls.py", "send"),
    ],
    "session": [("assistant/", None)],
    "tokens' clock": [("benchmarks/gateway/talker.py", None)],
    "this meter": [("benchmarks/gateway/served.py", "run")],
}
NAMES = [*_STAGES, OTHER]


class StageSampler:
    """Adds the time since the sample before to the stage that runs. Other threads' time makes
    samples too, but adds next to nothing."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self._last_s = 0.0
        self._known: dict[CodeType, str | None] = {}

    def start(self) -> None:
        """To be called in the main thread, whose samples these are."""
        self._last_s = time.thread_time()
        signal.signal(signal.SIGPROF, self._sample)
        signal.siginterrupt(signal.SIGPROF, False)
        signal.setitimer(signal.ITIMER_PROF, INTERVAL_S, INTERVAL_S)

    def _sample(self, _: int, frame: FrameType | None) -> None:
        now_s = time.thread_time()
        passed_s, self._last_s = now_s - self._last_s, now_s
        while frame is not None:
            code = frame.f_code
            if code not in self._known:
                self._known[code] = _stage(code)
            if stage := self._known[code]:
                self.seconds[stage] += passed_s
                return
            frame = frame.f_back
        self.seconds[OTHER] += passed_s


def _stage(code: CodeType) -> str | None:
    """The stage with the rule that says most about this function."""
    module = _module(code.co_filename)
    fitting = [
        (function is not None, len(path), stage)
        for stage, rules in _STAGES.items()
        for path, function in rules
        if module.startswith(path) and function in (None, code.co_name)
    ]
    return max(fitting)[2] if fitting else None


def _module(file: str) -> str:
    """The path of a module's file as it is imported."""
    folders = [f"{folder}/" for folder in sys.path if file.startswith(f"{folder}/")]
    return file.removeprefix(max(folders, key=len, default=""))
