"""Test vocabulary: the codecs of telephones that FFmpeg reads and doesn't write.

Their encoders come from Debian; a test that asks for one that isn't installed is skipped, with the
command that brings it.
"""

from __future__ import annotations

import ctypes
import struct
from ctypes.util import find_library

import numpy as np
import pytest

from audio_io.pcm import Int16Array

_AMR_WB_MODE = 8
"""The best of nine: 23.85 kbit/s."""
_AMR_WB_FRAME_BYTES = 1 + 60
"""The most that a frame takes, header and all."""
_GSM_WAV49 = 4
"""The option that packs frames as wav files have them."""
_GSM_BLOCK_BYTES = 65
_GSM_BLOCK_SAMPLES = 320


def amr_wb(samples: Int16Array) -> bytes:
    """An AMR-WB file; `samples`: int16 (n,), 16 kHz mono."""
    library = _library("vo-amrwbenc", package="libvo-amrwbenc0")
    library.E_IF_init.restype = ctypes.c_void_p
    state = ctypes.c_void_p(library.E_IF_init())
    out = ctypes.create_string_buffer(_AMR_WB_FRAME_BYTES)
    file = b"#!AMR-WB\n"
    for frame in _frames(samples, 320):
        size = library.E_IF_encode(state, _AMR_WB_MODE, frame.ctypes.data_as(_SHORTS), out, 0)
        file += out.raw[:size]
    library.E_IF_exit(state)
    return file


def gsm_wav(samples: Int16Array) -> bytes:
    """A wav file with GSM 06.10; `samples`: int16 (n,), 8 kHz mono."""
    library = _library("gsm", package="libgsm1")
    library.gsm_create.restype = ctypes.c_void_p
    state = ctypes.c_void_p(library.gsm_create())
    library.gsm_option(state, _GSM_WAV49, ctypes.byref(ctypes.c_int(1)))
    blocks = b""
    for block in _frames(samples, _GSM_BLOCK_SAMPLES):
        # Two frames of 32.5 bytes: the first keeps its last half for the second.
        out = (ctypes.c_ubyte * _GSM_BLOCK_BYTES)()
        library.gsm_encode(state, block[:160].ctypes.data_as(_SHORTS), out)
        library.gsm_encode(state, block[160:].ctypes.data_as(_SHORTS), ctypes.byref(out, 32))
        blocks += bytes(out)
    library.gsm_destroy(state)
    bytes_per_s = 8000 * _GSM_BLOCK_BYTES // _GSM_BLOCK_SAMPLES
    format_ = struct.pack(
        "<HHIIHHHH", 0x31, 1, 8000, bytes_per_s, _GSM_BLOCK_BYTES, 0, 2, _GSM_BLOCK_SAMPLES
    )
    content = b"WAVE" + _chunk(b"fmt ", format_) + _chunk(b"data", blocks)
    return _chunk(b"RIFF", content)


_SHORTS = ctypes.POINTER(ctypes.c_int16)


def _frames(samples: Int16Array, size: int) -> list[Int16Array]:
    filled = np.pad(samples, (0, -len(samples) % size))
    return list(np.ascontiguousarray(filled).reshape(-1, size))


def _chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)


def _library(name: str, package: str) -> ctypes.CDLL:
    if (path := find_library(name)) is None:
        pytest.skip(f"lib{name} is missing; it comes with `apt-get install {package}`")
    return ctypes.CDLL(path)
