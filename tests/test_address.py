"""How the server is reached from other machines."""

from __future__ import annotations

import io
import ipaddress
import socket

import pytest
from rich.console import Console

from assistant.address import machine_names, print_qr_code, reachable_host, url


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", "http://127.0.0.1:80"),
        ("::1", "http://[::1]:80"),
        ("desk.local", "http://desk.local:80"),
    ],
)
def test_urls(host: str, expected: str) -> None:
    assert url("http", host, 80) == expected


def test_a_server_everywhere_is_reached_at_an_address_of_this_machine() -> None:
    host = reachable_host("0.0.0.0")
    assert host == reachable_host("::")
    # Only an address of one's own can be bound.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((host, 0))
    assert ipaddress.ip_address(host).version == 4


def test_a_server_on_one_address_is_reached_there() -> None:
    assert reachable_host("192.168.1.5") == "192.168.1.5"


def test_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "Desk.example.org")
    assert machine_names("10.0.0.7") == {
        "localhost",
        "127.0.0.1",
        "::1",
        "desk.example.org",
        "desk.local",
        "10.0.0.7",
    }


def test_a_name_that_no_certificate_can_hold_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "my_küche")
    assert machine_names("::1") == {"localhost", "127.0.0.1", "::1"}


def drawn(width: int, terminal: bool) -> str:
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=terminal, color_system=None)
    print_qr_code("https://192.168.1.5:8000", console)
    return out.getvalue()


def test_the_qr_code_is_drawn_where_there_is_room_on_a_terminal() -> None:
    lines = drawn(80, terminal=True).splitlines()
    # 25 modules and twice the quiet zone of 4, two rows of them to a line.
    assert [len(line) for line in lines] == [33] * 17
    assert set("".join(lines)) == set("█▀▄ ")
    assert drawn(32, terminal=True) == ""
    assert drawn(80, terminal=False) == ""
