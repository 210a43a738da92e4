"""The command `assistant`, which Ctrl-C ends quietly at any moment."""

from __future__ import annotations

import signal
import sys


def main() -> None:
    """Entry point."""
    try:
        # Here, since it takes a second, in which Ctrl-C may come too.
        from assistant.commands import app

        app()
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)


if __name__ == "__main__":
    main()
