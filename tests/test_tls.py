"""Certificates: made, kept, renewed, and used by a server that clients then trust."""

from __future__ import annotations

import asyncio
import ssl
import stat
from collections.abc import AsyncIterator, Set
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization as pem
from cryptography.x509 import SubjectAlternativeName

from assistant.errors import ConfigError
from assistant.tls import VALID, Certificate, check_certificate, self_signed, state_folder

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NAMES: Set[str] = {"localhost", "127.0.0.1", "::1", "192.168.1.5", "desk.local"}


def names(files: Certificate) -> Set[str]:
    extensions = check_certificate(files).extensions
    extension = extensions.get_extension_for_class(SubjectAlternativeName)
    return {str(name.value) for name in extension.value}


@asynccontextmanager
async def echo_server(files: Certificate) -> AsyncIterator[int]:
    """Sends back one line over TLS; yields its port."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(files.certificate, files.key)

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        writer.close()

    async with await asyncio.start_server(echo, "127.0.0.1", 0, ssl=context) as server:
        yield server.sockets[0].getsockname()[1]


async def test_who_has_the_certificate_trusts_the_server(tmp_path: Path) -> None:
    files = self_signed(tmp_path, NAMES, datetime.now(UTC))
    trusting = ssl.create_default_context(cafile=files.certificate)
    # As Python 3.13 does by default.
    trusting.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
    async with echo_server(files) as port:
        for name in ("localhost", "127.0.0.1"):
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", port, ssl=trusting, server_hostname=name
            )
            writer.write(b"hello\n")
            assert await reader.readline() == b"hello\n"
            writer.close()
            await writer.wait_closed()
        with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
            await asyncio.open_connection(
                "127.0.0.1", port, ssl=trusting, server_hostname="elsewhere"
            )


def test_the_certificate_is_kept_from_start_to_start(tmp_path: Path) -> None:
    folder = tmp_path / "not" / "there"
    files = self_signed(folder, NAMES, NOW)
    before = files.certificate.read_bytes(), files.key.read_bytes()
    assert names(files) == NAMES
    later = NOW + timedelta(days=700)
    assert self_signed(folder, {"localhost", "0:0::1"}, later) == files
    assert (files.certificate.read_bytes(), files.key.read_bytes()) == before


def test_only_the_owner_may_read_the_key(tmp_path: Path) -> None:
    files = self_signed(tmp_path / "state", NAMES, NOW)
    assert stat.S_IMODE(files.key.stat().st_mode) == 0o600
    assert stat.S_IMODE(files.key.parent.stat().st_mode) == 0o700
    assert sorted(path.name for path in files.key.parent.iterdir()) == [
        "self-signed.crt",
        "self-signed.key",
    ]


def test_a_new_address_is_added_to_the_old_ones(tmp_path: Path) -> None:
    self_signed(tmp_path, NAMES, NOW)
    files = self_signed(tmp_path, {"localhost", "10.0.0.7"}, NOW)
    assert names(files) == NAMES | {"10.0.0.7"}
    both = files.certificate.read_bytes()
    self_signed(tmp_path, NAMES, NOW)
    assert files.certificate.read_bytes() == both


def test_before_its_end_it_is_renewed_for_what_is_used_now(tmp_path: Path) -> None:
    self_signed(tmp_path, NAMES, NOW)
    later = NOW + VALID - timedelta(days=29)
    files = self_signed(tmp_path, {"localhost"}, later)
    assert names(files) == {"localhost"}
    assert check_certificate(files).not_valid_after_utc == later + VALID


@pytest.mark.parametrize("broken", ["self-signed.crt", "self-signed.key"])
def test_a_damaged_one_is_replaced(tmp_path: Path, broken: str) -> None:
    self_signed(tmp_path, NAMES, NOW)
    (tmp_path / broken).write_text("-----BEGIN")
    check_certificate(self_signed(tmp_path, NAMES, NOW))


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"Not a directory\. Choose another .* XDG_STATE_HOME"):
        self_signed(tmp_path / "file" / "state", NAMES, NOW)


def test_files_that_do_not_fit(tmp_path: Path) -> None:
    one = self_signed(tmp_path / "one", NAMES, NOW)
    other = self_signed(tmp_path / "other", NAMES, NOW)
    check_certificate(one)
    for certificate, key, complaint in (
        (one.certificate, other.key, "self-signed.key is not the key of .*self-signed.crt"),
        (one.key, one.key, "self-signed.key holds no certificate in PEM format"),
        (one.certificate, one.certificate, "self-signed.crt holds no private key in PEM format"),
        (tmp_path / "none.crt", one.key, "none.crt can't be read: No such file"),
        (one.certificate, tmp_path / "none.key", "none.key can't be read: No such file"),
        (one.certificate, encrypted(one.key), "locked.key is encrypted"),
    ):
        with pytest.raises(ConfigError, match=complaint):
            check_certificate(Certificate(certificate, key))


def encrypted(key: Path) -> Path:
    plain = pem.load_pem_private_key(key.read_bytes(), password=None)
    locked = key.with_name("locked.key")
    locked.write_bytes(
        plain.private_bytes(
            pem.Encoding.PEM, pem.PrivateFormat.PKCS8, pem.BestAvailableEncryption(b"secret")
        )
    )
    return locked


def test_the_state_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/elsewhere")
    assert state_folder() == Path("/elsewhere/streaming-voice-assistant")
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", "/home/ada")
    assert state_folder() == Path("/home/ada/.local/state/streaming-voice-assistant")
