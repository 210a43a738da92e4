"""This machine's microphones, through PortAudio (sounddevice)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from audio_io.errors import DeviceError
from audio_io.handover import Handover
from audio_io.pcm import SAMPLE_RATE_HZ, Int16Array, pcm16_from_bytes

BLOCK_MS = 20
"""At 10 ms nothing is gained: with busy threads beside it, the callback is up to 80 ms late."""
MAX_PENDING_BLOCKS = 200
"""4 s; the event loop has been seen to stall for 300 ms, and an older turn is over."""
SILENT_S = 5.0
"""PulseAudio takes up to 1.2 s to the first block; who gives none for so long has stopped."""

_MISSING = (
    "PortAudio is missing, which the microphone needs. On Debian and Ubuntu it comes with "
    "`apt-get install libportaudio2`, elsewhere with the package portaudio."
)
_NONE_FOUND = (
    "No microphone was found. Connect one, or switch it on in the system's sound settings. On "
    "Debian and Ubuntu with PulseAudio, PortAudio sees it after "
    "`apt-get install libasound2-plugins`; with PipeWire, after `apt-get install pipewire-alsa`."
)


@dataclass(frozen=True, slots=True)
class InputDevice:
    """A device that PortAudio can record from."""

    index: int
    """PortAudio's number for it; may change when devices come and go."""
    name: str
    default_rate_hz: int
    is_default: bool
    """Whether it is the one that is recorded from where none is named."""


def list_devices() -> list[InputDevice]:
    """All input devices. Raises DeviceError where PortAudio is missing."""
    sd = _sounddevice()
    return [_input_device(info) for info in sd.query_devices() if info["max_input_channels"]]


def find_device(wanted: str | None = None) -> InputDevice:
    """The input device with that number or that part of a name; None: the default one.

    Raises DeviceError where there is none, or more than one.
    """
    sd = _sounddevice()
    if not list_devices():
        raise DeviceError(_NONE_FOUND)
    device = int(wanted) if wanted and wanted.isdecimal() else wanted
    try:
        return _input_device(sd.query_devices(device, "input"))
    except (ValueError, sd.PortAudioError) as error:
        raise DeviceError(f"{error}. `assistant devices` lists what there is.") from error


class Microphone:
    """A microphone that records; `open_microphone` makes it."""

    def __init__(self, name: str, sample_rate_hz: int) -> None:
        self._name = name
        self._sample_rate_hz = sample_rate_hz
        self._handover = Handover(MAX_PENDING_BLOCKS)
        self._overflows = 0

    @property
    def lost_ms(self) -> int:
        """How much was dropped so far, here or before it reached us, in whole blocks."""
        return (self._handover.dropped + self._overflows) * BLOCK_MS

    async def audio(self) -> AsyncIterator[tuple[Int16Array, int]]:
        """Samples, int16 (n,), as they come, and their rate in Hz. For one consumer.

        What isn't taken in time is dropped, the oldest first. Raises DeviceError when the device
        is gone or has stopped.
        """
        while True:
            try:
                async with asyncio.timeout(SILENT_S):
                    data = await self._handover.take()
            except TimeoutError as error:
                raise DeviceError(
                    f"The microphone {self._name!r} has stopped: it gave nothing for "
                    f"{SILENT_S:g} s. Is it still connected?"
                ) from error
            if not data:
                raise DeviceError(
                    f"The microphone {self._name!r} is gone: it was unplugged, or the sound "
                    "server has ended."
                )
            yield pcm16_from_bytes(data), self._sample_rate_hz

    def on_block(self, block: Any, n_samples: int, times: Any, status: Any) -> None:
        """A block from PortAudio, in its thread."""
        # Which must never wait: copy and hand over, nothing else.
        self._overflows += bool(status.input_overflow)
        self._handover.put(bytes(block))

    def on_end(self) -> None:
        """No more will come; called in PortAudio's thread too."""
        self._handover.close()


@contextmanager
def open_microphone(device: InputDevice) -> Iterator[Microphone]:
    """Record for as long as the context is open, for the running event loop.

    At 16 kHz where the device takes that, else at its own rate. Raises DeviceError.
    """
    sd = _sounddevice()
    sample_rate_hz = _accepted_rate_hz(device)
    microphone = Microphone(device.name, sample_rate_hz)
    with ExitStack() as stack:
        try:
            stream = sd.RawInputStream(
                device=device.index,
                samplerate=sample_rate_hz,
                channels=1,
                dtype="int16",
                blocksize=sample_rate_hz * BLOCK_MS // 1000,
                callback=microphone.on_block,
                finished_callback=microphone.on_end,
            )
            stack.callback(stream.close)
            stream.start()
        except sd.PortAudioError as error:
            raise DeviceError(
                f"The microphone {device.name!r} can't be opened: {error}. Another program may be "
                "using it."
            ) from error
        yield microphone


def _sounddevice() -> Any:
    """The package, which loads PortAudio when it is first imported. Raises DeviceError."""
    try:
        import sounddevice
    except OSError as error:
        raise DeviceError(_MISSING) from error
    return sounddevice


def _input_device(info: dict[str, Any]) -> InputDevice:
    default_index, _ = _sounddevice().default.device
    return InputDevice(
        info["index"],
        info["name"],
        round(info["default_samplerate"]),
        info["index"] == default_index,
    )


def _accepted_rate_hz(device: InputDevice) -> int:
    """16 kHz, which saves resampling, or else what the device itself runs at."""
    sd = _sounddevice()
    refusals = []
    for rate_hz in (SAMPLE_RATE_HZ, device.default_rate_hz):
        try:
            sd.check_input_settings(
                device=device.index, channels=1, dtype="int16", samplerate=rate_hz
            )
            return rate_hz
        except sd.PortAudioError as error:
            refusals.append(f"{rate_hz} Hz: {error}")
    raise DeviceError(f"The microphone {device.name!r} can't be used: {'; '.join(refusals)}.")
