"""The microphone: recorded by PortAudio from a virtual one; what that never does, by a stand-in."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import groupby
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from audio_io.errors import DeviceError
from audio_io.microphone import (
    FIRST_BLOCK_S,
    FIRST_RETRY_S,
    MAX_RETRY_S,
    PACE_S,
    STALLED_S,
    InputDevice,
    Microphone,
    find_device,
    list_devices,
    open_microphone,
)
from audio_io.pcm import SAMPLE_RATE_HZ, Int16Array
from audio_io.recording import BLOCK_MS, MAX_PENDING_BLOCKS
from tests.speech import join, prompt, silence
from tests.virtual_microphone import VirtualMicrophone, virtual_microphone
from tests.virtual_time import VirtualTimeLoop, run

BLOCK = BLOCK_MS * SAMPLE_RATE_HZ // 1000
"""Samples of one block."""


def likeness(heard: Int16Array, said: Int16Array) -> float:
    """The normalised correlation of `said` with that part of `heard` that is most like it."""
    match = np.correlate(heard.astype(float), said.astype(float), "valid")
    start = int(match.argmax())
    part = heard[start : start + len(said)].astype(float)
    return float(match[start] / np.linalg.norm(part) / np.linalg.norm(said.astype(float)))


async def said_in(
    room: VirtualMicrophone, audio: AsyncIterator[tuple[Int16Array, int]], said: Int16Array
) -> Int16Array:
    """What is recorded while `said` is said."""
    speaking = asyncio.create_task(room.hears(join(said, silence(500))))
    heard = silence(0)
    while not speaking.done() or len(heard) < len(said):
        samples, rate_hz = await anext(audio)
        assert rate_hz == SAMPLE_RATE_HZ
        heard = join(heard, samples)
    await speaking
    return heard


@pytest.mark.slow
async def test_what_is_said_in_the_room_is_recorded() -> None:
    said = prompt("hello-world")
    with virtual_microphone() as room, open_microphone(find_device()) as opened:
        audio = opened.audio()
        await anext(audio)
        heard = await said_in(room, audio, said)
        assert opened.lost_ms == 0
    assert likeness(heard, said) > 0.95


@pytest.mark.slow
@pytest.mark.parametrize(
    ("goes", "comes"),
    [
        pytest.param(VirtualMicrophone.breaks, VirtualMicrophone.comes_back, id="sound server"),
        pytest.param(
            VirtualMicrophone.is_unplugged, VirtualMicrophone.is_plugged_in, id="microphone"
        ),
    ],
)
async def test_what_goes_and_comes_back_is_recorded_again(
    goes: Callable[[VirtualMicrophone], None], comes: Callable[[VirtualMicrophone], None]
) -> None:
    said = prompt("hello-world")
    now = asyncio.get_running_loop().time
    with virtual_microphone() as room, open_microphone(find_device()) as opened:
        audio = opened.audio()
        first, _ = await anext(audio)
        started_s = now() - len(first) / SAMPLE_RATE_HZ
        goes(room)
        n_samples = len(first)
        while n_samples < SAMPLE_RATE_HZ:
            samples, _ = await anext(audio)
            n_samples += len(samples)
        assert opened.notice is not None
        assert re.fullmatch("The microphone '.*' is gone: it was unplugged, or .*", opened.notice)
        comes(room)
        while "again" not in opened.notice:
            samples, _ = await anext(audio)
            n_samples += len(samples)
        assert opened.lost_ms > 500
        # Silence has kept the time: what is heard now has its place by the clock.
        assert n_samples / SAMPLE_RATE_HZ == pytest.approx(now() - started_s, abs=0.5)
        heard = await said_in(room, audio, said)
    assert likeness(heard, said) > 0.95


@pytest.mark.slow
async def test_another_device_chosen_while_recording_is_heard() -> None:
    """ALSA's way into PulseAudio stalls when it is moved, so it takes the watchdog."""
    said = prompt("hello-world")
    with virtual_microphone() as room, open_microphone(find_device()) as opened:
        audio = opened.audio()
        await anext(audio)
        room.is_exchanged()
        while opened.notice is None or "again" not in opened.notice:
            await anext(audio)
        assert opened.lost_ms > 0
        heard = await said_in(room, audio, said)
    assert likeness(heard, said) > 0.95


@pytest.mark.slow
async def test_devices_are_found_by_number_and_by_name() -> None:
    with virtual_microphone():
        devices = list_devices()
        (default,) = (device for device in devices if device.is_default)
        assert find_device() == default
        for device in devices:
            assert find_device(str(device.index)) == device
        assert find_device("defau") == default
        for wrong in ("nonsense", "99"):
            with pytest.raises(DeviceError, match=r"`assistant devices` lists what there is\."):
                find_device(wrong)


# What PulseAudio can't be made to do.


class PortAudioError(Exception):
    """As sounddevice names it."""


class Stream:
    """One that the test is the hardware of."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        self.is_open = True

    def start(self) -> None: ...

    def close(self) -> None:
        if self.is_open:
            self.is_open = False
            self.settings["finished_callback"]()


class SoundDevice:
    """sounddevice on a machine whose devices come and go; the first is the default.

    Like PortAudio, it sees only those that were there when it was initialised.
    """

    PortAudioError = PortAudioError

    def __init__(self, *names: str, rates_hz: tuple[int, ...] = (16_000, 44_100)) -> None:
        self._rates_hz = rates_hz
        self.plugged_in = names
        self.streams: list[Stream] = []
        self.looked: list[float] = []
        self._clock_s = 1000.0
        self._initialize()

    def _initialize(self) -> None:
        with suppress(RuntimeError):
            self.looked.append(asyncio.get_running_loop().time())
        self.default = SimpleNamespace(device=(0 if self.plugged_in else -1, -1))
        self._devices = [
            {
                "name": name,
                "index": index,
                "max_input_channels": 2,
                "default_samplerate": float(self._rates_hz[-1]),
            }
            for index, name in enumerate(self.plugged_in)
        ]

    def _terminate(self) -> None:
        for stream in self.streams:
            stream.close()

    def query_devices(self, device: str | None = None, kind: str | None = None) -> Any:
        if not kind:
            return self._devices
        for info in self._devices:
            if device is None or device in info["name"]:
                return info
        raise ValueError(f"No input device matching {device!r}")

    def check_input_settings(self, *, samplerate: int, **_: Any) -> None:
        if samplerate not in self._rates_hz:
            raise PortAudioError("Invalid sample rate")

    def RawInputStream(self, **settings: Any) -> Stream:
        name = self._devices[settings["device"]]["name"]
        if name == "busy" or name not in self.plugged_in:
            raise PortAudioError("Device unavailable")
        self.streams.append(Stream(settings))
        return self.streams[-1]

    @property
    def stream(self) -> Stream | None:
        """The one that is recorded from, if there is one."""
        return next((stream for stream in self.streams if stream.is_open), None)

    def gives(self, *samples: int, overflow_ms: int | None = None) -> None:
        """A block; before it, the machine has lost so much as the clock of its device shows."""
        assert self.stream is not None
        self._clock_s += (overflow_ms or 0) / 1000
        self.stream.settings["callback"](
            np.array(samples, np.int16).tobytes(),
            len(samples),
            SimpleNamespace(inputBufferAdcTime=self._clock_s),
            SimpleNamespace(input_overflow=overflow_ms is not None),
        )
        self._clock_s += len(samples) / self.stream.settings["samplerate"]

    async def plays(self, seconds: float, value: int = 1) -> None:
        """Blocks for so long, each when its time is over."""
        for _ in range(round(seconds * 1000 / BLOCK_MS)):
            await asyncio.sleep(BLOCK_MS / 1000)
            self.gives(*[value] * BLOCK)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[[SoundDevice], SoundDevice]:
    def with_(sound: SoundDevice) -> SoundDevice:
        monkeypatch.setitem(sys.modules, "sounddevice", sound)
        return sound

    return with_


Machine = Callable[[SoundDevice], SoundDevice]


async def test_the_devices_own_rate_where_16_khz_is_refused(machine: Machine) -> None:
    sound = machine(SoundDevice("headset", rates_hz=(48_000,)))
    with open_microphone(find_device()) as opened:
        sound.gives(1, 2, 3)
        samples, rate_hz = await anext(opened.audio())
    assert (samples.tolist(), rate_hz) == ([1, 2, 3], 48_000)
    (stream,) = sound.streams
    assert stream.settings["samplerate"] == 48_000
    assert stream.settings["blocksize"] == 960
    assert not stream.is_open


async def test_a_device_that_takes_no_rate(machine: Machine) -> None:
    machine(SoundDevice("old", rates_hz=(48_000,)))
    device = InputDevice(0, "old", default_rate_hz=11_025, is_default=True)
    with pytest.raises(DeviceError) as caught, open_microphone(device):
        pass
    assert str(caught.value) == (
        "The microphone 'old' can't be used: 16000 Hz: Invalid sample rate; "
        "11025 Hz: Invalid sample rate."
    )


async def test_what_is_lost_is_counted_and_silence_takes_its_place(machine: Machine) -> None:
    sound = machine(SoundDevice("headset"))
    with open_microphone(find_device()) as opened:
        audio = opened.audio()
        for number in range(MAX_PENDING_BLOCKS + 3):
            sound.gives(*[number] * BLOCK)
        samples, _ = await anext(audio)
        # Three blocks were dropped here.
        assert samples[::BLOCK].tolist() == [0, 0, 0, *range(3, MAX_PENDING_BLOCKS + 3)]
        assert opened.lost_ms == 60
        # And some before they reached us.
        sound.gives(*[1000] * BLOCK, overflow_ms=100)
        samples, _ = await anext(audio)
        assert samples[::BLOCK].tolist() == [0, 0, 0, 0, 0, 1000]
        assert opened.lost_ms == 160


@pytest.mark.parametrize(
    ("shown_ms", "counted_ms"), [(0, BLOCK_MS), (-3_600_000, BLOCK_MS), (3_600_000, 5000)]
)
async def test_a_device_whose_clock_was_set_during_an_overflow(
    machine: Machine, shown_ms: int, counted_ms: int
) -> None:
    sound = machine(SoundDevice("headset"))
    with open_microphone(find_device()) as opened:
        sound.gives(*[1] * BLOCK)
        sound.gives(*[1] * BLOCK, overflow_ms=shown_ms)
        samples, _ = await anext(opened.audio())
        assert opened.lost_ms == counted_ms
        assert len(samples) == 2 * BLOCK + counted_ms * 16


async def test_a_device_that_is_busy(machine: Machine) -> None:
    machine(SoundDevice("busy"))
    with (
        pytest.raises(DeviceError, match=r"'busy' can't be opened: Device unavailable\. Another"),
        open_microphone(find_device()),
    ):
        pass


class Listener:
    """Takes all sound, and what is told of the microphone."""

    def __init__(self, microphone: Microphone) -> None:
        self.heard = silence(0)
        self.notices: list[str] = []
        self._microphone = microphone

    async def listen(self) -> None:
        async for samples, rate_hz in self._microphone.audio():
            assert rate_hz == SAMPLE_RATE_HZ
            self.heard = join(self.heard, samples)
            notice = self._microphone.notice
            if notice is not None and self.notices[-1:] != [notice]:
                self.notices.append(notice)

    def sounds(self) -> list[tuple[int, int]]:
        """What was heard, as runs of one value: (value, ms)."""
        return [(value, round(len(list(run)) / 16)) for value, run in groupby(self.heard.tolist())]


@contextmanager
def listening(device: InputDevice | None = None) -> Iterator[tuple[Microphone, Listener]]:
    with open_microphone(device or find_device()) as opened:
        listener = Listener(opened)
        task = asyncio.create_task(listener.listen())
        yield opened, listener
        task.cancel()


UNPLUGGED = "it was unplugged, or the sound server has ended. Waiting for it."


def test_a_device_that_ends_is_opened_again_as_soon_as_it_is_back(machine: Machine) -> None:
    sound = machine(SoundDevice("headset"))

    async def main() -> None:
        with listening() as (opened, listener):
            await sound.plays(1)
            sound.plugged_in = ()
            assert sound.stream is not None
            sound.stream.close()
            await asyncio.sleep(20)
            # Nothing is counted before it is known what.
            assert (opened.lost_ms, sound.stream) == (0, None)
            waits = np.diff(sound.looked)
            assert waits[0] == pytest.approx(FIRST_RETRY_S, abs=PACE_S)
            assert waits[-1] == pytest.approx(MAX_RETRY_S, abs=PACE_S)
            sound.plugged_in = ("dock", "headset")
            await asyncio.sleep(MAX_RETRY_S)
            await sound.plays(1, value=2)
            await asyncio.sleep(0.001)
            assert listener.notices == [
                f"The microphone 'headset' is gone: {UNPLUGGED}",
                "The microphone 'dock' records again.",
            ]
            assert listener.sounds() == [(1, 1000), (0, 25_000), (2, 1000)]
            assert opened.lost_ms == 25_000
            # The next time, it is hurried again.
            sound.plugged_in = ()
            assert sound.stream is not None
            sound.stream.close()
            await asyncio.sleep(2 * FIRST_RETRY_S)
            assert np.diff(sound.looked)[-1] == pytest.approx(FIRST_RETRY_S, abs=PACE_S)
        assert sound.stream is None

    run(main())


def test_the_device_that_was_asked_for_is_waited_for(machine: Machine) -> None:
    sound = machine(SoundDevice("dock", "headset (hw:1,0)"))

    async def main() -> None:
        with listening(find_device("headset")) as (_, listener):
            await sound.plays(1)
            sound.plugged_in = ("dock",)
            assert sound.stream is not None
            sound.stream.close()
            await asyncio.sleep(60)
            assert sound.stream is None
            sound.plugged_in = ("dock", "headset (hw:2,0)")
            await asyncio.sleep(MAX_RETRY_S + PACE_S)
            await sound.plays(1)
            await asyncio.sleep(0.001)
            assert listener.notices[1:] == ["The microphone 'headset (hw:2,0)' records again."]

    run(main())


def test_a_device_that_stalls_is_opened_again(machine: Machine) -> None:
    sound = machine(SoundDevice("headset"))

    async def main() -> None:
        with listening() as (opened, listener):
            await sound.plays(1)
            await asyncio.sleep(STALLED_S + 2 * PACE_S)
            await sound.plays(1, value=2)
            await asyncio.sleep(0.001)
            assert [text.partition(":")[0] for text in listener.notices] == [
                "The microphone 'headset' is gone",
                "The microphone 'headset' records again.",
            ]
            assert len(sound.looked) == 1
            # The first block of the new stream came at the end of its 20 ms.
            assert listener.sounds() == [(1, 1000), (0, 1200), (2, 1000)]
            assert opened.lost_ms == 1200

    run(main())


def test_a_device_that_gives_no_sound_after_it_is_opened_again(machine: Machine) -> None:
    sound = machine(SoundDevice("headset"))

    async def main() -> None:
        with listening() as (_, listener):
            await sound.plays(1)
            await asyncio.sleep(60)
            # It is given time for its first block.
            assert 5 < len(sound.looked) <= 60 / FIRST_BLOCK_S
            await sound.plays(1, value=2)
            await asyncio.sleep(0.001)
            assert listener.sounds() == [(1, 1000), (0, 60_000), (2, 1000)]
            assert len(listener.notices) == 2

    run(main())


def test_a_device_that_gives_no_sound_to_begin_with(machine: Machine) -> None:
    machine(SoundDevice("headset"))

    async def main() -> None:
        with open_microphone(find_device()) as opened:
            with pytest.raises(DeviceError, match="'headset' can't be used: it gives no sound"):
                await anext(opened.audio())
            time_s = asyncio.get_running_loop().time()
            assert time_s == pytest.approx(FIRST_BLOCK_S, abs=PACE_S)

    run(main())


def test_an_event_loop_that_stalls_loses_nothing(machine: Machine) -> None:
    sound = machine(SoundDevice("headset"))

    async def main() -> None:
        with listening() as (opened, listener):
            await sound.plays(1)
            await asyncio.sleep(0.001)
            loop = asyncio.get_running_loop()
            assert isinstance(loop, VirtualTimeLoop)
            loop.stall(3)
            for _ in range(150):
                sound.gives(*[1] * BLOCK)
            await asyncio.sleep(0.01)
            assert listener.sounds() == [(1, 4000)]
            assert (opened.lost_ms, listener.notices) == (0, [])

    run(main())


def test_a_machine_without_a_microphone(machine: Machine) -> None:
    machine(SoundDevice())
    for attempt in (list_devices, find_device):
        with pytest.raises(DeviceError, match="No microphone was found"):
            attempt()


def test_a_machine_without_portaudio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # What the package does when it is imported there.
    (tmp_path / "sounddevice.py").write_text("raise OSError('PortAudio library not found')")
    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    for attempt in (list_devices, find_device):
        with pytest.raises(DeviceError, match="`apt-get install libportaudio2`"):
            attempt()
