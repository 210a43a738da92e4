"""Errors over HTTP, in the form that the API's clients read."""

from __future__ import annotations

from collections.abc import Mapping

import orjson
from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

TOO_MANY_REQUESTS = 429


def error_type(status: int) -> str:
    """Whose fault it is, in the API's words."""
    if status == TOO_MANY_REQUESTS:
        return "requests"
    return "invalid_request_error" if status < 500 else "server_error"


def error_response(
    status: int,
    code: str | None,
    message: str,
    *,
    param: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """The answer to a request that isn't granted."""
    error = {"message": message, "type": error_type(status), "param": param, "code": code}
    return Response(orjson.dumps({"error": error}), status, headers, "application/json")


def mount_errors(app: FastAPI) -> None:
    """Have `app` answer like that where no route of it has answered."""

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> Response:
        match error.status_code:
            case 404:
                code, message = None, f"Invalid URL ({request.method} {request.url.path})"
            case 405:
                allowed = (error.headers or {}).get("Allow", "other")
                code, message = "method_not_supported", f"Only {allowed} requests are accepted."
            case _:
                code, message = "invalid_request", f"{error.detail}"
        return error_response(error.status_code, code, message, headers=error.headers)

    @app.exception_handler(ClientDisconnect)
    async def gone(_: Request, error: ClientDisconnect) -> Response:
        # Nobody is there to read it; without it, the log would hold a traceback.
        return Response(status_code=400)

    @app.exception_handler(Exception)
    async def failed(_: Request, error: Exception) -> Response:
        # Starlette raises it again, so that it is logged.
        return error_response(500, "server_error", "The server failed; its log has the details.")
