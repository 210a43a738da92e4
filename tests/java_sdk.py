"""Test vocabulary: requests as DashScope's SDK for Java sends them, byte for byte.

The SDK itself is not run: what it needs is in Java's repositories alone. This follows the source of
its version 2.22.29 (on OkHttp 4.12 and Gson): `MultiModalConversation`, `DashScopeHeaders`,
`HalfDuplexRequest`, `OSSUtils` for what is sent, in the order that Java 17 gives its maps;
`OkHttpHttpClient`, `DashScopeResult` and OkHttp's reader of event streams for what is read.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Json = dict[str, Any]

USER_AGENT = "dashscope/2.22.29; java/17.0.15; platform/Linux; processor/amd64"
GENERATION = "/services/aigc/multimodal-generation/generation"
BOUNDARY = "0c9cf1f4-9a2b-4d43-a6ff-6cc65b2d3a1e"


class ApiException(Exception):
    """What the SDK throws; `status` is what its message is made of."""

    def __init__(self, status: Json) -> None:
        super().__init__(json.dumps(status))
        self.status = status


@dataclass(frozen=True)
class Response:
    """What has come, before anything is made of it."""

    status: int
    headers: dict[str, str]
    """By their names in lower case."""
    body: bytes


@dataclass
class MultiModalConversation:
    """The SDK's class; only address and key are set, as `Constants.baseHttpApiUrl` and `apiKey`."""

    base_http_api_url: str
    api_key: str
    _connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
    sent: list[bytes] = field(default_factory=list)
    """Whole requests."""

    async def call(self, model: str, messages: list[Json]) -> Json:
        """The whole result. Raises ApiException."""
        response = await self._generate(model, messages, {}, sse=False)
        if not 200 <= response.status < 300:
            raise ApiException(_failure(response))
        return _result(json.loads(response.body))

    async def stream_call(
        self, model: str, messages: list[Json], **parameters: Any
    ) -> AsyncGenerator[Json]:
        """The results one by one. Raises ApiException in their place, or after some of them."""
        response = await self._generate(model, messages, parameters, sse=True)
        kind = response.headers.get("content-type", "").partition(";")[0]
        if response.status != 200 or kind != "text/event-stream":
            raise ApiException(_failure(response))
        for type_, data in _events(response.body):
            if type_ == "error":
                # Whatever the event says of it.
                raise ApiException(_status(400, json.loads(data)))
            yield _result(json.loads(data))

    async def close(self) -> None:
        """Let go of the connection, which is kept from one call to the next."""
        if self._connection:
            self._connection[1].close()

    async def _generate(
        self, model: str, messages: list[Json], parameters: Json, *, sse: bool
    ) -> Response:
        messages, resolve = await self._with_uploads(model, messages)
        body = _gson(
            {
                "model": model,
                "input": {"messages": messages},
                "parameters": {**parameters, "enable_search": False},
            }
        )
        # In the order of a HashMap.
        headers = {
            "Authorization": f"Bearer {self.api_key}",
            **({"X-DashScope-SSE": "enable", "Cache-Control": "no-cache"} if sse else {}),
            "Accept": "text/event-stream" if sse else "application/json; charset=utf-8",
            **({"X-DashScope-OssResourceResolve": "enable"} if resolve else {}),
            **({"X-Accel-Buffering": "no"} if sse else {}),
            "user-agent": USER_AGENT + ("; incremental_to_full/0" if sse else ""),
        }
        url = self.base_http_api_url.rstrip("/") + GENERATION
        return await self._post(url, headers, "application/json; charset=utf-8", body)

    async def _with_uploads(self, model: str, messages: list[Json]) -> tuple[list[Json], bool]:
        """The same with files here by their oss:// URLs, and whether there are any."""
        certificate: Json | None = None
        changed = []
        for message in messages:
            content = []
            for part in message["content"]:
                ((kind, value),) = part.items()
                if message["role"] == "user" and value.startswith("file://"):
                    certificate = certificate or await self._certificate(model)
                    value = await self._upload(certificate, Path(value.removeprefix("file://")))
                content.append({kind: value})
            changed.append({**message, "content": content})
        return changed, certificate is not None

    async def _certificate(self, model: str) -> Json:
        url = f"{self.base_http_api_url.rstrip('/')}/uploads?action=getPolicy&model={model}"
        headers = {
            "Authorization": f"Bearer {self.api_key}",
            "Accept": "application/json; charset=utf-8",
            "user-agent": USER_AGENT,
            "Content-Type": "application/json",
        }
        response = await self._send("GET", url, headers, b"")
        if response.status != 200:
            raise ApiException(_failure(response))
        answer = json.loads(response.body)
        assert "output" not in answer
        certificate: Json = answer["data"]
        return certificate

    async def _upload(self, certificate: Json, file: Path) -> str:
        key = f"{certificate['upload_dir']}/{file.name}"
        headers = {"User-Agent": "okhttp/4.12.0"}
        kind = f"multipart/form-data; boundary={BOUNDARY}"
        body = _form(certificate, key, file)
        response = await self._post(certificate["upload_host"], headers, kind, body)
        if not 200 <= response.status < 300:
            raise ApiException(_failure(response))
        return f"oss://{key}"

    async def _post(self, url: str, headers: dict[str, str], kind: str, body: bytes) -> Response:
        # What OkHttp knows of the body comes after what the caller says.
        length = {"Content-Type": kind, "Content-Length": str(len(body))}
        return await self._send("POST", url, {**headers, **length}, body)

    async def _send(self, method: str, url: str, headers: dict[str, str], body: bytes) -> Response:
        address, _, path = url.removeprefix("http://").partition("/")
        own = {"Host": address, "Connection": "Keep-Alive", "Accept-Encoding": "gzip"}
        lines = [f"{method} /{path} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in {**headers, **own}.items()]
        request = "\r\n".join([*lines, "", ""]).encode() + body
        self.sent.append(request)
        if self._connection is None:
            host, _, port = address.partition(":")
            self._connection = await asyncio.open_connection(host, int(port))
        reader, writer = self._connection
        writer.write(request)
        await writer.drain()
        return await _response(reader)


def _gson(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def _form(certificate: Json, key: str, file: Path) -> bytes:
    fields = {
        "OSSAccessKeyId": certificate["oss_access_key_id"],
        "Signature": certificate["signature"],
        "policy": certificate["policy"],
        "key": key,
        "x-oss-object-acl": certificate["x_oss_object_acl"],
        "x-oss-forbid-overwrite": certificate["x_oss_forbid_overwrite"],
        "success_action_status": "200",
        "x-oss-content-type": "audio/x-wav",
    }
    assert all(isinstance(value, str) for value in fields.values())
    parts = [_part(f'name="{name}"', value.encode()) for name, value in fields.items()]
    parts.append(_part(f'name="file"; filename="{file.name}"', file.read_bytes(), "audio/x-wav"))
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


def _part(name: str, content: bytes, kind: str | None = None) -> bytes:
    head = f"--{BOUNDARY}\r\nContent-Disposition: form-data; {name}\r\n"
    if kind:
        head += f"Content-Type: {kind}\r\n"
    return f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content + b"\r\n"


async def _response(reader: asyncio.StreamReader) -> Response:
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    pairs = (line.split(": ", 1) for line in lines if line)
    headers = {name.lower(): value for name, value in pairs}
    assert "content-encoding" not in headers
    if headers.get("transfer-encoding") == "chunked":
        body = b"".join([chunk async for chunk in _chunks(reader)])
    else:
        body = await reader.readexactly(int(headers["content-length"]))
    return Response(int(first.split()[1]), headers, body)


async def _chunks(reader: asyncio.StreamReader) -> AsyncGenerator[bytes]:
    while size := int(await reader.readline(), 16):
        yield await reader.readexactly(size)
        await reader.readline()
    await reader.readline()


def _events(body: bytes) -> Iterator[tuple[str | None, str]]:
    """The types and the data of an event stream; comments and fields of no standard are nothing."""
    for block in body.decode().split("\n\n")[:-1]:
        fields = [line.partition(":") for line in block.split("\n")]
        values = [(name, value.removeprefix(" ")) for name, _, value in fields]
        data = "\n".join(value for name, value in values if name == "data")
        types = [value for name, value in values if name == "event"]
        yield (types[-1] if types else None), data


def _result(answer: Json) -> Json:
    """What the SDK's classes hold of an answer; they would throw for other types."""
    usage = answer["usage"]
    assert all(isinstance(count, int) for count in usage.values())
    for choice in answer["output"]["choices"]:
        assert isinstance(choice["finish_reason"], str)
        assert all(isinstance(part, dict) for part in choice["message"]["content"])
    return {
        "requestId": answer["request_id"],
        "usage": usage,
        "output": answer["output"],
        "code": answer.get("code", ""),
        "message": answer.get("message", ""),
    }


def _failure(response: Response) -> Json:
    assert "application/json" in response.headers["content-type"]
    return _status(response.status, json.loads(response.body))


def _status(status_code: int, told: Json) -> Json:
    keys = ("code", "message", "request_id")
    return {"status_code": status_code, **{key: told.get(key, "") for key in keys}}
