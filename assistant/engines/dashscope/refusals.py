"""Why a request was refused, in whichever of two shapes it is told.

The package reads DashScope's own, and of any other nothing. What stands before the models, such as
the check of the key, may answer in OpenAI's.
"""

from __future__ import annotations

from typing import Any

import aiohttp


class RefusalResponse(aiohttp.ClientResponse):
    """A response whose JSON is in DashScope's shape."""

    async def json(self, **options: Any) -> Any:
        content = await super().json(**options)
        return in_one_shape(content) if self.status >= 400 else content


def in_one_shape(refusal: Any) -> dict[str, Any]:
    """The same with `code` and `message` at the top, as far as it has any."""
    if not isinstance(refusal, dict):
        return {"message": str(refusal)}
    match refusal.get("error"):
        case dict() as error:
            code = error.get("code") or error.get("type")
            return {**refusal, "code": code, "message": error.get("message") or ""}
        case str() as message:
            return {**refusal, "message": message}
        case _:
            return refusal
