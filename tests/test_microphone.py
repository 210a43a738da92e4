"""The microphone: recorded by PortAudio from a virtual one; what that never does, by a stand-in."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from audio_io import microphone
from audio_io.errors import DeviceError
from audio_io.microphone import InputDevice, find_device, list_devices, open_microphone
from audio_io.pcm import SAMPLE_RATE_HZ, Int16Array
from tests.speech import join, prompt, silence
from tests.virtual_microphone import virtual_microphone
from tests.virtual_time import run


def likeness(heard: Int16Array, said: Int16Array) -> float:
    """The normalised correlation of `said` with that part of `heard` that is most like it."""
    match = np.correlate(heard.astype(float), said.astype(float), "valid")
    start = int(match.argmax())
    part = heard[start : start + len(said)].astype(float)
    return float(match[start] / np.linalg.norm(part) / np.linalg.norm(said.astype(float)))


@pytest.mark.slow
async def test_what_is_said_in_the_room_is_recorded() -> None:
    said = prompt("hello-world")
    with virtual_microphone() as room, open_microphone(find_device()) as opened:
        audio = opened.audio()
        await anext(audio)
        await room.hears(join(said, silence(500)))
        heard = silence(0)
        while len(heard) < len(said) + SAMPLE_RATE_HZ // 4:
            samples, rate_hz = await anext(audio)
            assert rate_hz == SAMPLE_RATE_HZ
            heard = join(heard, samples)
        assert opened.lost_ms == 0
    assert likeness(heard, said) > 0.95


@pytest.mark.slow
async def test_a_microphone_that_goes_is_told() -> None:
    with virtual_microphone() as room, open_microphone(find_device("default")) as opened:
        audio = opened.audio()
        await anext(audio)
        room.breaks()
        with pytest.raises(DeviceError, match="microphone 'default' is gone"):
            async for _ in audio:
                pass


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


class SoundDevice:
    """sounddevice on a machine whose devices are given; the test is their hardware."""

    PortAudioError = PortAudioError

    def __init__(self, *names: str, rates_hz: tuple[int, ...] = (16_000, 44_100)) -> None:
        self.default = SimpleNamespace(device=(0 if names else -1, -1))
        self._rates_hz = rates_hz
        self._devices = [
            {
                "name": name,
                "index": index,
                "max_input_channels": 2,
                "default_samplerate": float(rates_hz[-1]),
            }
            for index, name in enumerate(names)
        ]
        self.on_block: Callable[..., None]

    def query_devices(self, device: str | None = None, kind: str | None = None) -> Any:
        return self._devices[0] if kind else self._devices

    def check_input_settings(self, *, samplerate: int, **_: Any) -> None:
        if samplerate not in self._rates_hz:
            raise PortAudioError("Invalid sample rate")

    def RawInputStream(self, *, callback: Callable[..., None], **settings: Any) -> Any:
        if self._devices[settings["device"]]["name"] == "busy":
            raise PortAudioError("Device unavailable")
        self.on_block = callback
        self.settings = settings
        return SimpleNamespace(start=lambda: None, close=settings["finished_callback"])

    def gives(self, *samples: int, overflow: bool = False) -> None:
        block = np.array(samples, np.int16).tobytes()
        self.on_block(block, len(samples), None, SimpleNamespace(input_overflow=overflow))


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
    assert sound.settings["samplerate"] == 48_000
    assert sound.settings["blocksize"] == 960


async def test_a_device_that_takes_no_rate(machine: Machine) -> None:
    machine(SoundDevice("old", rates_hz=(48_000,)))
    device = InputDevice(0, "old", default_rate_hz=11_025, is_default=True)
    with pytest.raises(DeviceError) as caught, open_microphone(device):
        pass
    assert str(caught.value) == (
        "The microphone 'old' can't be used: 16000 Hz: Invalid sample rate; "
        "11025 Hz: Invalid sample rate."
    )


async def test_what_is_lost_is_counted(machine: Machine) -> None:
    sound = machine(SoundDevice("headset"))
    with open_microphone(find_device()) as opened:
        for number in range(microphone.MAX_PENDING_BLOCKS + 3):
            sound.gives(number)
        sound.gives(1000, overflow=True)
        samples, _ = await anext(opened.audio())
        assert samples.tolist() == [*range(4, microphone.MAX_PENDING_BLOCKS + 3), 1000]
        # Four blocks were dropped here, and one before it reached us.
        assert opened.lost_ms == 5 * microphone.BLOCK_MS


async def test_a_device_that_is_busy(machine: Machine) -> None:
    machine(SoundDevice("busy"))
    with (
        pytest.raises(DeviceError, match=r"'busy' can't be opened: Device unavailable\. Another"),
        open_microphone(find_device()),
    ):
        pass


def test_a_device_that_falls_silent(machine: Machine) -> None:
    sound = machine(SoundDevice("headset"))

    async def main() -> None:
        with open_microphone(find_device()) as opened:
            audio = opened.audio()
            sound.gives(1)
            await anext(audio)
            with pytest.raises(DeviceError, match="has stopped: it gave nothing for 5 s"):
                await anext(audio)
            assert asyncio.get_running_loop().time() == microphone.SILENT_S

    run(main())


def test_a_machine_without_a_microphone(machine: Machine) -> None:
    machine(SoundDevice())
    assert list_devices() == []
    with pytest.raises(DeviceError, match="No microphone was found"):
        find_device()


def test_a_machine_without_portaudio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # What the package does when it is imported there.
    (tmp_path / "sounddevice.py").write_text("raise OSError('PortAudio library not found')")
    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    for attempt in (list_devices, find_device):
        with pytest.raises(DeviceError, match="`apt-get install libportaudio2`"):
            attempt()
