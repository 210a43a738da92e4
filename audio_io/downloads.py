"""Files from the web, and from no other place: not from this machine, nor from its network.

A name is resolved once, every address that it has is checked, and the connection goes to one of
those; so does each redirection. Between the check and the connection, nothing is left to change.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from http.client import (
    BadStatusLine,
    HTTPConnection,
    HTTPException,
    HTTPResponse,
    HTTPSConnection,
    IncompleteRead,
    RemoteDisconnected,
)
from threading import Timer
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from audio_io.errors import AudioFormatError

MAX_REDIRECTIONS = 5
_REDIRECTIONS = (301, 302, 303, 307, 308)
# Addresses of IPv6 in which one of IPv4 stands, which is where they lead.
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
# All that the internet has of IPv6 (RFC 4291, section 2.4). Beyond it are more ways to write an
# address of IPv4, and networks that were private once.
_UNICAST = ipaddress.ip_network("2000::/3")

Resolve = Callable[[str, int], list[str]]


def is_public(address: str) -> bool:
    """Whether `address` (IPv4 or IPv6) is on the internet: not loopback, private or reserved."""
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
        if ip not in _UNICAST:
            return False
    return ip.is_global and not ip.is_multicast


def is_any(address: str) -> bool:
    """For those who trust whoever names the URLs."""
    return True


def resolve(host: str, port: int) -> list[str]:
    """The addresses of `host`, without those that this machine has no way to."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def download(
    url: str,
    *,
    max_bytes: int,
    timeout_s: float,
    may_reach: Callable[[str], bool] = is_public,
    resolve: Resolve = resolve,
) -> bytes:
    """What is at `url` (http or https); blocks until all of it has come.

    `timeout_s` is for all of it; `may_reach` says which addresses are allowed.

    Raises AudioFormatError where it can't be had, or has more than `max_bytes`.
    """
    deadline_s = time.monotonic() + timeout_s
    try:
        for _ in range(1 + MAX_REDIRECTIONS):
            place = _place(url)
            addresses = _checked(place, may_reach, resolve)
            with _connected(place, addresses, deadline_s) as connection:
                connection.request("GET", _target(place), headers={"Accept-Encoding": "identity"})
                with connection.getresponse() as response:
                    if response.status not in _REDIRECTIONS:
                        return _content(response, url, max_bytes, deadline_s)
                    url = urljoin(url, response.headers.get("Location", ""))
    except (OSError, HTTPException, UnicodeError) as error:
        if isinstance(error, TimeoutError) or time.monotonic() >= deadline_s:
            raise AudioFormatError(f"{url} didn't come within {timeout_s:g} s.") from error
        raise AudioFormatError(f"{url} can't be had: {_in_words(error)}.") from error
    raise AudioFormatError(f"{url} can't be had: redirected more than {MAX_REDIRECTIONS} times.")


def _in_words(error: OSError | HTTPException | UnicodeError) -> str:
    match error:
        case ssl.SSLCertVerificationError(verify_message=said):
            return f"its certificate isn't trusted, {said.rstrip('.')}"
        case ssl.SSLError():
            return "its server doesn't speak TLS as it should"
        case socket.gaierror():
            return f"its server's name leads nowhere ({error.strerror})"
        case OSError(strerror=str() as said):
            return said
        case IncompleteRead(partial=got):
            return f"it broke off after {len(got)} bytes"
        case RemoteDisconnected():
            return "its server hung up"
        case BadStatusLine():
            return "its server doesn't speak HTTP"
        case UnicodeError():
            return "no server's name is like that"
        case _:
            return str(error)


def _place(url: str) -> SplitResult:
    try:
        place = urlsplit(url)
        # Raises where it is no number.
        _ = place.port
    except ValueError as error:
        raise AudioFormatError(f"{url} is no address of the web: {error}.") from error
    if place.scheme not in ("http", "https") or not place.hostname:
        raise AudioFormatError(f"{url} is no address of the web.")
    return place


def _port(place: SplitResult) -> int:
    return place.port or (443 if place.scheme == "https" else 80)


def _target(place: SplitResult) -> str:
    # What people paste may hold spaces and letters beyond ASCII.
    path = quote(place.path or "/", safe="/%:@!$&'()*+,;=~-._")
    query = quote(place.query, safe="/%:@!$&'()*+,;=~-._?")
    return f"{path}?{query}" if query else path


def _checked(place: SplitResult, may_reach: Callable[[str], bool], resolve: Resolve) -> list[str]:
    host = str(place.hostname)
    addresses = resolve(host, _port(place))
    for address in addresses:
        # The zone of a link-local address is no part of it.
        if not may_reach(address.partition("%")[0]):
            raise AudioFormatError(
                f"{host} is at {address}, which is not on the public internet: files are not "
                "fetched from there, unless files.private_addresses is set."
            )
    return addresses


@contextmanager
def _connected(
    place: SplitResult, addresses: list[str], deadline_s: float
) -> Iterator[HTTPConnection]:
    """A connection to the first of the addresses that takes it, cut off at the deadline."""
    host, port = str(place.hostname), _port(place)
    secure = place.scheme == "https"
    connection = HTTPSConnection(host, port) if secure else HTTPConnection(host, port)
    with closing(connection), _reached(host, port, addresses, deadline_s) as plain:
        sock = plain
        if secure:
            sock = ssl.create_default_context().wrap_socket(plain, server_hostname=host)
        connection.sock = sock
        # Each byte may come in time, and all of them not.
        cut_off = Timer(_left_s(deadline_s), _shut_down, [sock])
        cut_off.daemon = True
        cut_off.start()
        try:
            yield connection
        finally:
            cut_off.cancel()


def _shut_down(sock: socket.socket) -> None:
    # It may have ended at this very moment.
    with suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


def _reached(host: str, port: int, addresses: list[str], deadline_s: float) -> socket.socket:
    failure = OSError(f"{host} has no address")
    for address in addresses:
        try:
            return socket.create_connection((address, port), timeout=_left_s(deadline_s))
        except OSError as error:
            failure = error
    raise failure


def _content(response: HTTPResponse, url: str, max_bytes: int, deadline_s: float) -> bytes:
    if response.status != 200:
        raise AudioFormatError(
            f"{url} can't be had: the server answers {response.status} {response.reason}."
        )
    content = response.read(max_bytes + 1)
    # What is cut off may look as if it had come to its end.
    _left_s(deadline_s)
    if len(content) > max_bytes:
        raise AudioFormatError(f"{url} has more than {max_bytes} bytes, the most that is taken.")
    # What is read up to a limit may end early without an error.
    if response.length:
        raise IncompleteRead(content, response.length)
    return content


def _left_s(deadline_s: float) -> float:
    """Raises TimeoutError where nothing is left."""
    left_s = deadline_s - time.monotonic()
    if left_s <= 0:
        raise TimeoutError
    return left_s
