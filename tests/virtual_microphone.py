"""Test vocabulary: a microphone without hardware, into which a test speaks.

PulseAudio runs with a null sink as its only device; what is played to it is what PortAudio
records, through ALSA, as on a desktop.
"""

from __future__ import annotations

import asyncio
import os
import select
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from audio_io.errors import DeviceError
from audio_io.microphone import list_devices
from audio_io.pcm import SAMPLE_RATE_HZ, Int16Array

NULL_SINK = ("module-null-sink", "sink_name=room", "rate=48000", "channels=1")
PACKAGES = "pulseaudio pulseaudio-utils libportaudio2 libasound2-plugins"
ALSA_CONFIG = """
</usr/share/alsa/alsa.conf>
pcm.!default { type pulse }
"""


class VirtualMicrophone:
    """The room around the microphone."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._sink = "room"
        self.comes_back()

    async def hears(self, samples: Int16Array) -> None:
        """Play int16 (n,), 16 kHz mono, in the room; returns when it has been heard.

        What is played before the microphone has given its first block is lost.
        """
        player = await asyncio.create_subprocess_exec(
            "pacat",
            f"--device={self._sink}",
            "--format=s16le",
            f"--rate={SAMPLE_RATE_HZ}",
            "--channels=1",
            stdin=subprocess.PIPE,
        )
        await player.communicate(samples.astype("<i2").tobytes())
        assert player.returncode == 0

    def breaks(self) -> None:
        """End the sound server; returns when it has ended."""
        if self._sound_server_fd is None:
            return
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._sound_server_fd, signal.SIGTERM)
        select.select([self._sound_server_fd], [], [])
        os.close(self._sound_server_fd)
        self._sound_server_fd = None

    def comes_back(self) -> None:
        """Start the sound server, again after it was ended; returns when it runs."""
        self._sound_server_fd: int | None = _start_sound_server(self._home)

    def is_unplugged(self) -> None:
        """Take the microphone away from a sound server that goes on."""
        _pactl("unload-module", "module-null-sink")

    def is_plugged_in(self) -> None:
        """The microphone is there again."""
        _pactl("load-module", *NULL_SINK)

    def is_exchanged(self) -> None:
        """Another microphone becomes the default; who records the default is moved to it."""
        self._sink = "other"
        _pactl("load-module", "module-null-sink", f"sink_name={self._sink}")
        _pactl("set-default-source", f"{self._sink}.monitor")


@contextmanager
def virtual_microphone() -> Iterator[VirtualMicrophone]:
    """The machine's only microphone, for as long as the context is open."""
    if missing := [name for name in ("pulseaudio", "pacat") if not shutil.which(name)]:
        _skip(f"{' and '.join(missing)} missing")
    # Not pytest's folder: the path of a socket may have 107 bytes at most.
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        alsa_config = home / "asound.conf"
        alsa_config.write_text(ALSA_CONFIG)
        patch.setenv("HOME", folder)
        patch.setenv("XDG_RUNTIME_DIR", folder)
        patch.setenv("PULSE_SERVER", f"unix:{home / 'socket'}")
        patch.setenv("ALSA_CONFIG_PATH", str(alsa_config))
        room = VirtualMicrophone(home)
        try:
            _look_again_for_devices()
            yield room
        finally:
            room.breaks()


def _start_sound_server(home: Path) -> int:
    """Returns a file descriptor of its process, once it can be connected to."""
    subprocess.run(
        [
            "pulseaudio",
            "-n",
            "--daemonize=yes",
            "--exit-idle-time=-1",
            f"--log-target=file:{home / 'log'}",
            "-L",
            f"module-native-protocol-unix auth-anonymous=1 socket={home / 'socket'}",
            "-L",
            " ".join(NULL_SINK),
        ],
        check=True,
        stderr=subprocess.DEVNULL,
    )
    # A daemon is nobody's child, so only this way can its end be waited for.
    return os.pidfd_open(int((home / "pulse" / "pid").read_text()))


def _pactl(*command: str) -> str:
    return subprocess.run(["pactl", *command], check=True, capture_output=True, text=True).stdout


def _look_again_for_devices() -> None:
    """PortAudio looks for devices when it is initialised, and never again."""
    try:
        import sounddevice
    except OSError as error:
        _skip(str(error))
    sounddevice._terminate()
    sounddevice._initialize()
    try:
        list_devices()
    except DeviceError as error:
        _skip(str(error))


def _skip(reason: str) -> None:
    pytest.skip(f"{reason}; it comes with `apt-get install {PACKAGES}`")
