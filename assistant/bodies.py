"""What requests hold, read within bounds."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from python_multipart.exceptions import FormParserError
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request

from assistant.client_json import parse_json
from assistant.errors import ProtocolError

# Browsers' offers, with every codec and candidate, stay under 64 kB.
MAX_OFFER_BYTES = 256 * 1024
# What a form has beside its file.
MAX_FIELDS_BYTES = 64 * 1024


class BadRequestError(Exception):
    """The request can't be understood; the text says why."""


async def read_offer(request: Request) -> tuple[str, dict[str, Any]]:
    """The SDP offer and the session settings of a call's request, in either of its two forms.

    Raises BadRequestError.
    """
    _check_length(request, MAX_OFFER_BYTES)
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type == "application/sdp":
        return _text(await request.body()), {}
    if content_type == "multipart/form-data":
        async with _form(request, max_files=2, max_fields=2) as form:
            if "sdp" not in form:
                raise BadRequestError("The form has no part 'sdp'.")
            offer, settings = form["sdp"], form.get("session", "{}")
            return _text(await _part(offer)), _json_object(
                await _part(settings), "The part 'session'"
            )
    raise BadRequestError(
        f"The content type is '{content_type}'; send the offer as application/sdp, or as "
        "multipart/form-data with the parts 'sdp' and 'session'."
    )


async def read_upload(request: Request, max_bytes: int) -> tuple[str, bytes]:
    """The key and the content of a file of at most `max_bytes`, in the form that OSS takes.

    Raises BadRequestError.
    """
    _check_length(request, max_bytes + MAX_FIELDS_BYTES)
    async with _form(request, max_files=1, max_fields=32) as form:
        key, file = form.get("key"), form.get("file")
        if not isinstance(key, str) or not isinstance(file, UploadFile):
            raise BadRequestError("The form has no 'key' with a 'file'.")
        return key, await file.read()


@asynccontextmanager
async def _form(request: Request, *, max_files: int, max_fields: int) -> AsyncIterator[FormData]:
    """The form that is the request's body, until the context ends. Raises BadRequestError."""
    try:
        async with request.form(max_files=max_files, max_fields=max_fields) as form:
            yield form
    except HTTPException as error:
        raise BadRequestError(f"The form can't be read: {error.detail}") from error
    except FormParserError as error:
        raise BadRequestError(f"The form can't be read: {error}.") from error


async def read_json(request: Request, max_bytes: int) -> dict[str, Any]:
    """The JSON object that is the request's body; an empty body is an empty object.

    Raises BadRequestError.
    """
    _check_length(request, max_bytes)
    return _json_object(await request.body() or b"{}", "The body")


def _check_length(request: Request, max_bytes: int) -> None:
    length = request.headers.get("content-length", "")
    if not length.isdigit() or int(length) > max_bytes:
        raise BadRequestError(f"Send a body of at most {max_bytes} bytes, with its length.")


async def _part(part: UploadFile | str) -> bytes:
    return await part.read() if isinstance(part, UploadFile) else part.encode()


def _text(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise BadRequestError("The offer is not text.") from error


def _json_object(body: bytes, name: str) -> dict[str, Any]:
    try:
        value = parse_json(body, name)
    except ProtocolError as error:
        raise BadRequestError(str(error)) from error
    if value is None:  # As if there was none.
        return {}
    if not isinstance(value, dict):
        raise BadRequestError(f"{name} is not a JSON object.")
    return value
