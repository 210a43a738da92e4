"""What a failure means: what people are told of it, and whether the device has failed for good."""

from __future__ import annotations

from assistant.errors import EngineError

# Of the errors of the CUDA runtime (HIP's have the same numbers), those after which all others that
# a process asks for fail too: its documentation says of them that the process must be relaunched.
STICKY = frozenset(
    {
        214,  # uncorrectable ECC error
        220,  # uncorrectable NVLink error
        226,  # error that was contained
        700,  # illegal address
        702,  # launch timeout
        709,  # context is destroyed
        710,  # device-side assert
        714,  # hardware stack error
        715,  # illegal instruction
        716,  # misaligned address
        717,  # invalid address space
        718,  # invalid program counter
        719,  # launch failure
        721,  # tensor memory leak
        807,  # client of MPS terminated
        999,  # unknown
    }
)


class DeviceLostError(EngineError):
    """The device computes nothing more in this process, which has to end."""


def is_sticky(error: BaseException) -> bool:
    """Whether the device computes nothing more in the process that this was raised in."""
    # Here, since a server whose worker is a process doesn't import torch.
    import torch

    return isinstance(error, torch.AcceleratorError) and getattr(error, "error_code", 0) in STICKY


def told(error: BaseException) -> str:
    """What is wrong, in a line without a full stop. What isn't meant for people has its kind."""
    line = str(error).strip().partition("\n")[0].rstrip(".")
    if line and isinstance(error, EngineError | ImportError | OSError | RuntimeError):
        return line
    return f"{type(error).__name__}: {line}" if line else type(error).__name__
