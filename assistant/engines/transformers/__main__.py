"""The worker as a process of its own, given the number of its socket."""

import logging
import os
import select
import socket
import sys
import threading

from assistant.engines.transformers.worker import work


def leave_with(sock: socket.socket) -> None:
    """End this process when the other end has gone, whatever it is busy with.

    While it loads a model, or takes in a long prompt, it doesn't look at its socket for minutes.
    """
    poll = select.poll()
    # Asks for nothing, and so is told of the other end's hanging up alone.
    poll.register(sock, 0)
    poll.poll()
    os._exit(0)


logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
logging.getLogger("assistant").setLevel(logging.INFO)
with socket.socket(fileno=int(sys.argv[1])) as ours:
    threading.Thread(target=leave_with, args=(ours.dup(),), daemon=True).start()
    work(ours)
