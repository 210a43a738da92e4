"""Files from the web: what is fetched, and what is not reached by any way round."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from threading import Thread

import pytest

from assistant.tls import self_signed
from audio_io.downloads import MAX_REDIRECTIONS, download, is_any, is_public
from audio_io.errors import AudioFormatError
from tests.file_server import FileServer, Page, file_server


@pytest.fixture
def web() -> Iterator[FileServer]:
    with file_server() as server:
        yield server


def fetched(url: str, **options: object) -> bytes:
    given = {"max_bytes": 1000, "timeout_s": 5, "may_reach": is_any, **options}
    return download(url, **given)  # type: ignore[arg-type]


def test_a_file(web: FileServer) -> None:
    web.pages["/a%20b.wav?c=%C3%A9&d=%2F"] = Page(b"sound" * 200)
    assert fetched(web.url("/a b.wav?c=é&d=%2F#there")) == b"sound" * 200
    assert web.asked == [(web.address, "/a%20b.wav?c=%C3%A9&d=%2F")]


def test_a_file_that_has_moved(web: FileServer) -> None:
    web.redirects("/one", "/two")
    web.redirects("/two", web.url("/three"))
    web.pages["/three"] = Page(b"sound")
    assert fetched(web.url("/one")) == b"sound"


@pytest.mark.parametrize("headers", [{}, {"Content-Length": "1001"}, {"Content-Length": "9" * 30}])
def test_a_file_that_is_too_large(web: FileServer, headers: dict[str, str]) -> None:
    web.pages["/large"] = Page(bytes(1001), headers=headers)
    with pytest.raises(AudioFormatError, match="more than 1000 bytes"):
        fetched(web.url("/large"))


@pytest.mark.parametrize("size", [0, 999])
def test_a_file_that_breaks_off(web: FileServer, size: int) -> None:
    web.pages["/cut"] = Page(bytes(size), headers={"Content-Length": "1000"})
    with pytest.raises(
        AudioFormatError, match=rf"/cut can't be had: it broke off after {size} bytes\."
    ):
        fetched(web.url("/cut"))


def test_a_file_of_a_known_length(web: FileServer) -> None:
    web.pages["/whole"] = Page(bytes(1000), headers={"Content-Length": "1000"})
    assert fetched(web.url("/whole")) == bytes(1000)


def test_a_file_that_never_ends(web: FileServer) -> None:
    web.pages["/slow"] = Page(dribbles=True)
    with pytest.raises(AudioFormatError, match=r"/slow didn't come within 0\.3 s"):
        fetched(web.url("/slow"), timeout_s=0.3)


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("/missing", "the server answers 404"),
        ("/circle", f"redirected more than {MAX_REDIRECTIONS} times"),
        ("/to-a-file", "is no address of the web"),
        ("http://127.0.0.1:1/", r"can't be had: Connection refused\.$"),
        ("http://127.0.0.1:port/", "is no address of the web"),
        ("http:///nowhere", "is no address of the web"),
        (f"http://{'a' * 70}.example/", "can't be had: no server's name is like that"),
        ("https://{address}/", "can't be had: its server doesn't speak TLS as it should"),
    ],
)
def test_what_can_not_be_had(web: FileServer, url: str, complaint: str) -> None:
    web.redirects("/circle", "/circle")
    web.redirects("/to-a-file", "file:///etc/passwd")
    url = web.url(url) if url.startswith("/") else url.format(address=web.address)
    with pytest.raises(AudioFormatError, match=complaint):
        fetched(url)


def test_a_name_that_leads_nowhere() -> None:
    def resolve(host: str, port: int) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with pytest.raises(AudioFormatError) as told:
        fetched("http://nowhere.example/a.wav", resolve=resolve)
    assert str(told.value) == (
        "http://nowhere.example/a.wav can't be had: its server's name leads nowhere (Name or "
        "service not known)."
    )


@pytest.mark.parametrize(
    ("said", "complaint"),
    [(b"", "its server hung up"), (b"220 mail ready\r\n", "its server doesn't speak HTTP")],
)
def test_what_is_no_web_server(said: bytes, complaint: str) -> None:
    def answer() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(1000)
            connection.sendall(said)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = Thread(target=answer)
        thread.start()
        with pytest.raises(AudioFormatError, match=f"can't be had: {complaint}\\.$"):
            fetched(f"http://127.0.0.1:{listener.getsockname()[1]}/")
        thread.join()


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.0.0.1",
        "172.16.3.4",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1",
        "fc00::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b::a00:1",
        "64:ff9b:1::a00:1",
        "2002:7f00:1::",
        "2001:0:7f00:1::",
        "2001:0:4136:e378:8000:63bf:f5ff:fffe",
        "::127.0.0.1",
        "::10.0.0.1",
        "::ffff:0:127.0.0.1",
        "fec0::1",
        "2001:db8::1",
        "240.0.0.1",
        "198.18.0.1",
    ],
)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(address)
    with pytest.raises(AudioFormatError, match=r"not on the public internet.*private_addresses"):
        fetched("http://name.example/", may_reach=is_public, resolve=lambda *_: [address])


@pytest.mark.parametrize("address", ["8.8.8.8", "2001:4860:4860::8888", "::ffff:8.8.8.8"])
def test_addresses_that_are(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.0.0.1.",
        "127.1",
        "0",
        "0.0.0.0",
        "0x7f000001",
        "0x7f.0.0.1",
        "2130706433",
        "0177.0.0.1",
        "017700000001",
        "\uff11\uff12\uff17.0.0.1",
        "127\u30020\u30020\u30021",
        "%31%32%37.0.0.1",
        "localhost",
        "localhost.",
        "LOCALHOST",
        "someone@127.0.0.1",
        "example.org@127.0.0.1",
        "[::1]",
        "[::]",
        "[::127.0.0.1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::ffff:10.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[64:ff9b::a00:1]",
        "[fe80::1%25lo]",
    ],
)
def test_this_machine_by_any_name(web: FileServer, host: str) -> None:
    port = web.address.partition(":")[2]
    # Where no resolver knows such a spelling, it leads nowhere.
    refused = "not on the public internet|can't be had|no address of the web"
    with pytest.raises(AudioFormatError, match=refused):
        fetched(f"http://{host}:{port}/", may_reach=is_public)
    with file_server("127.0.0.2") as outside:
        outside.redirects("/", f"http://{host}:{port}/")
        with pytest.raises(AudioFormatError, match=refused):
            fetched(
                outside.url("/"),
                may_reach=lambda address: address == "127.0.0.2" or is_public(address),
            )
    assert web.asked == []


def test_a_name_of_a_private_address_is_refused_by_its_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def leads_inside(*_: object, **__: object) -> list[object]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.1", 80))]

    monkeypatch.setattr(socket, "getaddrinfo", leads_inside)
    with pytest.raises(AudioFormatError, match=r"^inside\.example is at 10\.0\.0\.1, which is not"):
        fetched("http://inside.example/", may_reach=is_public)


def test_one_private_address_among_others_is_enough_to_refuse(web: FileServer) -> None:
    with pytest.raises(AudioFormatError, match=r"10\.0\.0\.1, which is not"):
        fetched(
            web.url("/"),
            may_reach=lambda address: address != "10.0.0.1",
            resolve=lambda *_: ["127.0.0.1", "10.0.0.1"],
        )
    assert web.asked == []


def test_a_redirection_to_a_private_address(web: FileServer) -> None:
    with file_server("127.0.0.2") as inside:
        inside.pages["/secret"] = Page(b"sound")
        web.redirects("/", inside.url("/secret"))
        assert fetched(web.url("/")) == b"sound"
        inside.asked.clear()
        with pytest.raises(AudioFormatError, match=r"127\.0\.0\.2, which is not"):
            fetched(web.url("/"), may_reach=lambda address: address == "127.0.0.1")
        assert inside.asked == []


def test_the_connection_goes_to_the_address_that_was_checked(web: FileServer) -> None:
    # A name server may answer differently each time it is asked.
    answers = iter([["127.0.0.1"], ["127.0.0.2"]])
    port = web.address.partition(":")[2]
    web.pages["/"] = Page(b"sound")
    assert (
        fetched(
            f"http://name.example:{port}/",
            may_reach=lambda address: address == "127.0.0.1",
            resolve=lambda *_: next(answers),
        )
        == b"sound"
    )
    assert web.asked == [(f"name.example:{port}", "/")]


def test_another_address_is_tried_where_one_does_not_answer(web: FileServer) -> None:
    web.pages["/"] = Page(b"sound")
    assert fetched(web.url("/"), resolve=lambda *_: ["127.0.0.3", "127.0.0.1"]) == b"sound"


def test_a_certificate_is_for_the_name_and_not_for_the_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = self_signed(tmp_path, {"name.example"}, datetime.now(UTC))
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.certificate))
    with file_server(certificate=certificate) as web:
        web.pages["/"] = Page(b"sound")
        port = web.address.partition(":")[2]
        url = f"https://name.example:{port}/"
        assert fetched(url, resolve=lambda *_: ["127.0.0.1"]) == b"sound"
        with pytest.raises(
            AudioFormatError, match=r"can't be had: its certificate isn't trusted, .*other\.example"
        ):
            fetched(f"https://other.example:{port}/", resolve=lambda *_: ["127.0.0.1"])
