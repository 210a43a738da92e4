"""TLS certificates for the server, since browsers give the microphone only to https pages.

A certificate that the server makes for itself is kept from one start to the next: a person allows
it once in each browser, and would have to allow another.
"""

from __future__ import annotations

import os
from collections.abc import Set
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from assistant.errors import ConfigError

VALID = timedelta(days=820)
"""Apple's devices accept no certificate for more than 825 days."""
CLOCK_SLACK = timedelta(days=1)
"""Phones whose clock is behind accept it all the same."""
RENEW_BEFORE_END = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate and its private key, as PEM files; `check_certificate` tells if they fit."""

    certificate: Path
    key: Path


def check_certificate(files: Certificate) -> x509.Certificate:
    """The certificate of `files`. Raises ConfigError where a server couldn't use them."""
    try:
        certificate = x509.load_pem_x509_certificate(_read(files.certificate))
    except ValueError as error:
        raise ConfigError(f"{files.certificate} holds no certificate in PEM format.") from error
    try:
        key = load_pem_private_key(_read(files.key), password=None)
    except TypeError as error:
        raise ConfigError(f"{files.key} is encrypted; give a key without a password.") from error
    except ValueError as error:
        raise ConfigError(f"{files.key} holds no private key in PEM format.") from error
    if key.public_key() != certificate.public_key():
        raise ConfigError(f"{files.key} is not the key of {files.certificate}.")
    return certificate


def self_signed(folder: Path, names: Set[str], now: datetime) -> Certificate:
    """A certificate in `folder` for `names` (DNS names and IP addresses), made if need be.

    The one that is there is kept while it covers `names` and has some time left. A new one also
    covers what it covered, so that a machine that goes to and fro between two networks soon has
    one for both. Raises ConfigError where the folder can't be written.
    """
    files = Certificate(folder / "self-signed.crt", folder / "self-signed.key")
    names = {str(_general_name(name).value) for name in names}
    # None or a damaged one is replaced.
    with suppress(ConfigError):
        kept = check_certificate(files)
        if now < kept.not_valid_after_utc - RENEW_BEFORE_END:
            if names <= _names(kept):
                return files
            names = names | _names(kept)
    key = generate_private_key(SECP256R1())
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _write(
            files.key,
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        )
        _write(files.certificate, _signed(key, names, now).public_bytes(Encoding.PEM))
    except OSError as error:
        raise ConfigError(
            f"The certificate can't be kept in {folder}: {error.strerror}. Choose another folder "
            "by the variable XDG_STATE_HOME."
        ) from error
    return files


def state_folder() -> Path:
    """Where this program keeps what outlives it, by the XDG base directory specification."""
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "streaming-voice-assistant"


def _signed(key: EllipticCurvePrivateKey, names: Set[str], now: datetime) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Streaming voice assistant")])
    public = key.public_key()
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SLACK)
        .not_valid_after(now + VALID)
        .add_extension(
            x509.SubjectAlternativeName([_general_name(name) for name in sorted(names)]),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .sign(key, hashes.SHA256())
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _names(certificate: x509.Certificate) -> Set[str]:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return frozenset()
    return {str(name.value) for name in extension.value}


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} can't be read: {error.strerror}.") from error


def _write(path: Path, data: bytes) -> None:
    """Write at once or not at all, for nobody else to read."""
    new = path.with_suffix(".new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
    new.replace(path)
