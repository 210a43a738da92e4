"""The worker as a process of its own, given the number of its socket."""

import logging
import socket
import sys

from assistant.engines.transformers.worker import work

logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
work(socket.socket(fileno=int(sys.argv[1])))
