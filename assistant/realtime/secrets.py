"""Short-lived keys for clients that must not hold the server's own, such as web pages. Pure.

A program that has an API key asks for one on its client's behalf (`POST .../client_secrets`), with
the settings that the client's sessions are to begin with. The key opens sessions until it expires;
a session that it has opened goes on.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from assistant.errors import TooManyRequestsError
from assistant.realtime.client_model import ClientModel
from assistant.realtime.complaints import protocol_error

PREFIX = "ek_"
"""By which the API's clients tell these keys from others; some take no other in a browser."""

MAX_REQUEST_BYTES = 64 * 1024
"""Of a request for a key. Its settings are kept as long as the key."""


class _Model(ClientModel):
    @model_validator(mode="before")
    @classmethod
    def _absent(cls, data: Any) -> Any:
        """What is null is as if it was left out."""
        if not isinstance(data, dict):
            return data
        return {key: value for key, value in data.items() if value is not None}


class ExpiresAfter(_Model):
    """How long a key is good for. The range and the default are the API's."""

    anchor: Literal["created_at"] = "created_at"
    seconds: Annotated[int, Field(ge=10, le=7200)] = 600


class ClientSecretRequest(_Model):
    """What a program asks for."""

    expires_after: ExpiresAfter = ExpiresAfter()
    session: dict[str, Any] = Field(default={})
    """Laid over the server's settings, as in `session.update`."""

    @classmethod
    def parse(cls, body: dict[str, Any]) -> ClientSecretRequest:
        """The request in this JSON. Raises ProtocolError."""
        try:
            return cls.model_validate(body)
        except ValidationError as error:
            raise protocol_error(error, body) from error


@dataclass(frozen=True, slots=True)
class ClientSecret:
    """One key, without its value, which only its holder has."""

    session: dict[str, Any]
    """As in the request."""
    expires_at_s: int
    """By the clock of `now_s`."""


class ClientSecrets:
    """The keys that are good. Times are in s since the epoch."""

    def __init__(
        self, max_secrets: int, *, new_value: Callable[[], str] = lambda: secrets.token_urlsafe(32)
    ) -> None:
        self._max_secrets = max_secrets
        self._new_value = new_value
        # By digest: neither a look at the memory nor the time of a lookup tells a value.
        self._by_digest: dict[bytes, ClientSecret] = {}

    def mint(self, request: ClientSecretRequest, now_s: float) -> tuple[str, ClientSecret]:
        """A new key and what it stands for.

        Raises TooManyRequestsError where `max_secrets` are good still.
        """
        if len(self._by_digest) >= self._max_secrets:
            self._forget_expired(now_s)
        if len(self._by_digest) >= self._max_secrets:
            first_s = min(secret.expires_at_s for secret in self._by_digest.values())
            raise TooManyRequestsError(
                f"{self._max_secrets} keys are good still, which is the most at once.",
                retry_after_s=first_s - now_s,
            )
        value = PREFIX + self._new_value()
        secret = ClientSecret(request.session, int(now_s) + request.expires_after.seconds)
        self._by_digest[_digest(value)] = secret
        return value, secret

    def find(self, value: str, now_s: float) -> ClientSecret | None:
        """What a key stands for; None where it is none of ours, or is one no longer."""
        secret = self._by_digest.get(_digest(value))
        return secret if secret is not None and now_s < secret.expires_at_s else None

    def _forget_expired(self, now_s: float) -> None:
        self._by_digest = {
            digest: secret
            for digest, secret in self._by_digest.items()
            if now_s < secret.expires_at_s
        }


def _digest(value: str) -> bytes:
    return hashlib.sha256(value.encode()).digest()
