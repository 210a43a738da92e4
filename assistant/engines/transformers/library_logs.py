"""What libraries say of themselves where nobody can use it."""

from __future__ import annotations

import logging
import sys


def leave_out_torchao() -> None:
    """Call before transformers is imported, where weights stay as they are.

    Where torchao is installed, transformers imports it in any case; it warns of kernels that are
    for other devices, and torch of how it is told of torchao's types.
    """
    for name in ("torchao", "torch.utils._pytree"):
        logging.getLogger(name).setLevel(logging.ERROR)


def leave_out_progress() -> None:
    """Call before weights are loaded: the bar that tells how far is for a terminal alone.

    A download, which takes minutes, goes on to tell in any case.
    """
    from huggingface_hub.utils.tqdm import enable_progress_bars
    from transformers.utils import logging as library

    if not sys.stderr.isatty():
        library.disable_progress_bar()  # type: ignore[no-untyped-call]
        enable_progress_bars()
