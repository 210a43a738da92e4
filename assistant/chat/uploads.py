"""Files that are sent ahead of the request that is about them.

DashScope's SDKs do so with those that are named by their paths: they ask for a permit, send the
file to the address that it names, as a form and without their key, and put `oss://` and the file's
own name in the request.
"""

from __future__ import annotations

from collections import deque
from secrets import token_urlsafe
from uuid import uuid4

from fastapi import FastAPI, Request
from starlette.responses import JSONResponse

from assistant.bodies import BadRequestError, read_upload
from assistant.chat.dashscope import refusal
from assistant.config import Config
from assistant.errors import ProtocolError

PATH = "/api/v1/uploads"
SCHEME = "oss://"
MAX_PERMITS = 256
"""That are good at once; then the oldest isn't any more."""


class Uploads:
    """The newest files, as many as there is room for."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._permits: deque[str] = deque(maxlen=MAX_PERMITS)
        self._files: dict[str, bytes] = {}

    def permit(self) -> str:
        """The name of a folder that whoever knows it may put files into, and read them from."""
        self._permits.append(token_urlsafe(24))
        return self._permits[-1]

    def add(self, permit: str, key: str, content: bytes) -> None:
        """Keep a file that is sent by a permit. Raises ProtocolError."""
        if permit not in self._permits or not key.startswith(f"{permit}/"):
            raise ProtocolError("There is no such permit, or none any more: ask for another.")
        if self._files.get(key, content) != content:
            raise ProtocolError(f"{SCHEME}{key} is there already, and is another file.")
        self._files.pop(key, None)
        while self._files and len(content) + self.size_bytes > self._max_bytes:
            del self._files[next(iter(self._files))]
        self._files[key] = content

    def find(self, url: str) -> bytes:
        """The content of the file that is named by `oss://`. Raises ProtocolError."""
        try:
            return self._files[url.removeprefix(SCHEME)]
        except KeyError:
            raise ProtocolError(f"{url} isn't here, or isn't any more: send it again.") from None

    @property
    def size_bytes(self) -> int:
        """Of all files."""
        return sum(map(len, self._files.values()))


def mount_uploads(app: FastAPI, config: Config) -> Uploads:
    """Add the routes to `app`. The second one's address is its key."""
    uploads = Uploads(config.chat.max_request_bytes)

    @app.get(PATH)
    async def permit(request: Request, action: str = "") -> JSONResponse:
        if action != "getPolicy":
            return _refused("The action is getPolicy.")
        folder = uploads.permit()
        data = {
            "upload_host": f"{str(request.base_url).rstrip('/')}{PATH}/{folder}",
            "upload_dir": folder,
            "max_file_size_mb": config.files.max_bytes // 2**20,
            "x_oss_object_acl": "private",
            "x_oss_forbid_overwrite": "true",
            # What a store of its own would check.
            "oss_access_key_id": "none",
            "signature": "none",
            "policy": "none",
        }
        return JSONResponse({"data": data, "request_id": str(uuid4())})

    @app.post(PATH + "/{folder}")
    async def upload(request: Request, folder: str) -> JSONResponse:
        try:
            key, content = await read_upload(request, config.files.max_bytes)
            uploads.add(folder, key, content)
        except (BadRequestError, ProtocolError) as error:
            return _refused(str(error))
        return JSONResponse({})

    return uploads


def _refused(why: str) -> JSONResponse:
    return JSONResponse(refusal("InvalidParameter", why, str(uuid4())), 400)
