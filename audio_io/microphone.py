"""This machine's microphones, through PortAudio (sounddevice)."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from audio_io.errors import DeviceError
from audio_io.pcm import SAMPLE_RATE_HZ, Int16Array
from audio_io.recording import Recording

logger = logging.getLogger(__name__)

FIRST_BLOCK_S = 5.0
"""PulseAudio takes up to 2 s to the first block of a stream."""
STALLED_S = 1.0
"""Later on blocks are up to 82 ms late; who gives none for so long has stopped."""
FIRST_RETRY_S, MAX_RETRY_S = 0.5, 5.0
"""How long to wait before trying again, twice as long each time: a look for devices takes 70 ms of
one core, and some drivers write to the terminal at each."""
PACE_S = 0.1
"""Silence for a device that is gone comes in such steps: a session that gets nothing for 200 ms
puts in silence by itself, and that would count twice."""

# Which ALSA may give anew to a device that comes back.
_ALSA_NUMBERS = re.compile(r" \(hw:\d+,\d+\)$")
_NOTHING: Int16Array = np.zeros(0, np.int16)
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
    """All input devices, of which there is at least one.

    Raises DeviceError where there is none, or PortAudio is missing.
    """
    found = [info for info in _sounddevice().query_devices() if info["max_input_channels"]]
    if not found:
        raise DeviceError(_NONE_FOUND)
    return [_input_device(info) for info in found]


def find_device(wanted: str | None = None) -> InputDevice:
    """The input device with that number or that part of a name; None: the default one.

    Raises DeviceError where there is none, or more than one.
    """
    list_devices()
    sd = _sounddevice()
    device = int(wanted) if wanted and wanted.isdecimal() else wanted
    try:
        return _input_device(sd.query_devices(device, "input"))
    except (ValueError, sd.PortAudioError) as error:
        raise DeviceError(f"{error}. `assistant devices` lists what there is.") from error


class Microphone:
    """Sound from a device, through whatever happens to it; `open_microphone` makes it.

    A device that ends or stalls is opened again, with growing pauses between the attempts, until
    it gives sound: the same one, or where it was the default, what is the default by then. Silence
    takes the place of lost sound, so that what follows keeps its place in time.
    """

    def __init__(self, device: InputDevice) -> None:
        """Raises DeviceError where the device can't be opened now."""
        self._wanted = None if device.is_default else _ALSA_NUMBERS.sub("", device.name)
        self._recording: Recording | None = _record(device)
        self._name, self._sample_rate_hz = device.name, self._recording.sample_rate_hz
        self._now_s = asyncio.get_running_loop().time
        self._opened_s = self._now_s()
        self._works = False
        """Whether the recording has given sound."""
        self._given_until_s: float | None = None
        """Up to when there was sound, or silence in its place; None before the first."""
        self._missing_s = 0.0
        """Silence given since the device last worked."""
        self._lost_ms = 0
        """By recordings that are over, and between them."""
        self._retry_s, self._retry_at_s = FIRST_RETRY_S, self._opened_s
        self.notice: str | None = None
        """What there is to tell: that the device is gone, or that it is back."""

    @property
    def lost_ms(self) -> int:
        """How much sound was lost so far; while a device is gone, up to when it went."""
        return self._lost_ms + (self._recording.lost_ms if self._recording else 0)

    async def audio(self) -> AsyncIterator[tuple[Int16Array, int]]:
        """Samples, int16 (n,), as they come, and their rate in Hz. For one consumer; never ends.

        Silence comes at the pace of the clock while the device is gone. Raises DeviceError where
        it has given no sound to begin with.
        """
        while True:
            samples = await self._take()
            now_s = self._now_s()
            if not self._works:
                silence = self._silence_until(now_s - len(samples) / self._sample_rate_hz)
                if len(silence):
                    yield silence, self._sample_rate_hz
            if len(samples):
                self._given_until_s = now_s
                self._note_that_it_works()
                yield samples, self._sample_rate_hz

    def close(self) -> None:
        """Stop recording."""
        if self._recording is not None:
            self._recording.close()
            self._lost_ms += self._recording.lost_ms
            self._recording = None

    async def _take(self) -> Int16Array:
        """What the device gives; nothing where it gives none for a while, or none any more."""
        if self._recording is None:
            await asyncio.sleep(PACE_S)
            if self._now_s() >= self._retry_at_s:
                self._open_again()
            return _NOTHING
        try:
            async with asyncio.timeout(STALLED_S if self._works else PACE_S):
                samples = await self._recording.take()
        except TimeoutError:
            is_over = self._works or self._now_s() - self._opened_s >= FIRST_BLOCK_S
            # Where it was the event loop that stalled, there is sound by now.
            if is_over and not self._recording.pending:
                self._give_up("it gives no sound")
            return _NOTHING
        if not len(samples):
            self._give_up("it was unplugged, or the sound server has ended")
        return samples

    def _give_up(self, reason: str) -> None:
        self.close()
        if self._given_until_s is None:
            raise DeviceError(f"The microphone {self._name!r} can't be used: {reason}.")
        if self._works:
            self._works = False
            self._retry_at_s = self._now_s()
            self.notice = f"The microphone {self._name!r} is gone: {reason}. Waiting for it."

    def _open_again(self) -> None:
        self._opened_s = self._now_s()
        self._retry_at_s = self._opened_s + self._retry_s
        self._retry_s = min(2 * self._retry_s, MAX_RETRY_S)
        try:
            _look_again_for_devices()
            device = find_device(self._wanted)
            self._recording = _record(device)
        except DeviceError as error:
            logger.debug("The microphone is still gone: %s", error)
        else:
            self._name, self._sample_rate_hz = device.name, self._recording.sample_rate_hz

    def _note_that_it_works(self) -> None:
        if self._works:
            return
        self._works = True
        self._retry_s = FIRST_RETRY_S
        self._lost_ms += round(self._missing_s * 1000)
        self._missing_s = 0.0
        if self.notice is not None:
            self.notice = f"The microphone {self._name!r} records again."

    def _silence_until(self, end_s: float) -> Int16Array:
        if self._given_until_s is None:
            return _NOTHING
        missing = max(0, round((end_s - self._given_until_s) * self._sample_rate_hz))
        self._given_until_s += missing / self._sample_rate_hz
        self._missing_s += missing / self._sample_rate_hz
        return np.zeros(missing, np.int16)


@contextmanager
def open_microphone(device: InputDevice) -> Iterator[Microphone]:
    """Record for as long as the context is open, for the running event loop.

    At 16 kHz where the device takes that, else at its own rate. Raises DeviceError.
    """
    with closing(Microphone(device)) as microphone:
        yield microphone


def _record(device: InputDevice) -> Recording:
    """A new stream from the device, running. Raises DeviceError."""
    sd = _sounddevice()
    recording = Recording(_accepted_rate_hz(device))
    with ExitStack() as stack:
        try:
            stream = sd.RawInputStream(
                device=device.index,
                samplerate=recording.sample_rate_hz,
                channels=1,
                dtype="int16",
                blocksize=recording.block_samples,
                callback=recording.on_block,
                finished_callback=recording.on_end,
            )
            stack.callback(stream.close)
            stream.start()
        except sd.PortAudioError as error:
            raise DeviceError(
                f"The microphone {device.name!r} can't be opened: {error}. Another program may be "
                "using it."
            ) from error
        recording.close = stack.pop_all().close
    return recording


def _look_again_for_devices() -> None:
    """PortAudio looks for devices when it is initialised, and never again. Ends all streams.

    Not in a thread beside the event loop: on Windows it is bound to the one that initialised it.
    """
    sd = _sounddevice()
    with suppress(sd.PortAudioError):
        sd._terminate()
    try:
        sd._initialize()
    except sd.PortAudioError as error:
        raise DeviceError(f"The sound system can't be reached: {error}.") from error


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
