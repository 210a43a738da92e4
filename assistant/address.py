"""Where the server is reached from: this machine's names, and the address to open elsewhere."""

from __future__ import annotations

import re
import socket
from collections.abc import Set
from io import StringIO

import segno
from rich.console import Console
from rich.text import Text

EVERY_ADDRESS = frozenset({"0.0.0.0", "::"})
"""Hosts to listen on that stand for all addresses of the machine."""

_DNS_NAME = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)*")
# Of TEST-NET-1, RFC 5737: nobody's address.
_ELSEWHERE = ("192.0.2.1", 9)


def machine_names(host: str) -> Set[str]:
    """What a server that listens on `host` may be addressed by: DNS names and IP addresses."""
    own = socket.gethostname().lower()
    # Apple's and most Linux desktops answer to the second in their own network (mDNS, RFC 6762).
    names = {"localhost", own, f"{own.partition('.')[0]}.local"}
    names = {name for name in names if _DNS_NAME.fullmatch(name)}
    return names | {"127.0.0.1", "::1", reachable_host(host)}


def reachable_host(host: str) -> str:
    """The name or address by which other machines reach a server that listens on `host`.

    By IPv4, since a machine's IPv6 addresses change daily, and its certificate would with them.
    """
    return _lan_address() if host in EVERY_ADDRESS else host


def url(scheme: str, host: str, port: int) -> str:
    """The address of a page served by `host`, an address or a name."""
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def print_qr_code(text: str, console: Console) -> None:
    """`text` for a phone's camera, where the console is a terminal that has room for it."""
    drawing = StringIO()
    segno.make_qr(text, error="l").terminal(drawing, compact=True)
    lines = drawing.getvalue().splitlines()
    if console.is_terminal and console.width >= len(lines[0]):
        # Its own colours, since cameras don't all read light on dark.
        console.print(Text("\n".join(lines), style="#ffffff on #000000"))


def _lan_address() -> str:
    """The IPv4 address that this machine has towards others; loopback where it has none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # Connecting a datagram socket only chooses a route: nothing is sent.
            probe.connect(_ELSEWHERE)
        except OSError:
            return "127.0.0.1"
        address: str = probe.getsockname()[0]
        return address
