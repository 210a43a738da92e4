"""Files that are sent ahead: who may, how much, and what becomes of them."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from assistant.chat.uploads import MAX_PERMITS, PATH, Uploads
from assistant.config import Config
from assistant.errors import ProtocolError
from tests.answering_engine import AnsweringModel
from tests.server import serving

KEY = "sk-0123456789"


def test_a_file_is_found_by_its_name() -> None:
    uploads = Uploads(max_bytes=100)
    one, another = uploads.permit(), uploads.permit()
    uploads.add(one, f"{one}/a.wav", b"sound")
    uploads.add(another, f"{another}/a.wav", b"another")
    assert uploads.find(f"oss://{one}/a.wav") == b"sound"
    assert uploads.find(f"oss://{another}/a.wav") == b"another"
    with pytest.raises(ProtocolError, match="send it again"):
        uploads.find(f"oss://{one}/b.wav")


def test_the_oldest_give_way() -> None:
    uploads = Uploads(max_bytes=10)
    folder = uploads.permit()
    for name in "abc":
        uploads.add(folder, f"{folder}/{name}", name.encode() * 4)
    # The same once more is no other file, and the newest again.
    uploads.add(folder, f"{folder}/b", b"bbbb")
    uploads.add(folder, f"{folder}/d", b"dddd")
    assert uploads.size_bytes == 8
    for name, there in {"a": False, "b": True, "c": False, "d": True}.items():
        if there:
            assert uploads.find(f"oss://{folder}/{name}") == name.encode() * 4
        else:
            with pytest.raises(ProtocolError):
                uploads.find(f"oss://{folder}/{name}")


def test_what_is_not_permitted() -> None:
    uploads = Uploads(max_bytes=100)
    folder, other = uploads.permit(), uploads.permit()
    uploads.add(folder, f"{folder}/a", b"sound")
    for permit, key, complaint in (
        ("guessed", "guessed/a", "no such permit"),
        (folder, f"{other}/a", "no such permit"),
        (folder, f"{folder}/a", "is there already"),
    ):
        with pytest.raises(ProtocolError, match=complaint):
            uploads.add(permit, key, b"other")
    for _ in range(MAX_PERMITS):
        uploads.permit()
    with pytest.raises(ProtocolError, match="none any more"):
        uploads.add(folder, f"{folder}/b", b"sound")


async def test_over_the_wire() -> None:
    config = Config.load(overrides={"server": {"api_key": KEY}, "files": {"max_bytes": 1024}})
    server = serving(config, AnsweringModel())
    async with server as address, httpx.AsyncClient(base_url=f"http://{address}") as web:
        question = {"action": "getPolicy", "model": "any"}
        assert (await web.get(PATH, params=question)).status_code == 401
        key = {"Authorization": f"Bearer {KEY}"}
        assert (await web.get(PATH, headers=key)).json()["code"] == "InvalidParameter"
        permit = (await web.get(PATH, params=question, headers=key)).json()["data"]
        name = f"{permit['upload_dir']}/a.wav"

        async def send(
            to: str = permit["upload_host"], content: bytes = b"sound", **form: Any
        ) -> tuple[int, str]:
            sent = await web.post(to, data=form, files={"file": content})
            return sent.status_code, sent.json().get("message", "")

        assert await send(key=name) == (200, "")
        for sent, complaint in (
            (send(), "no 'key'"),
            (send(key="elsewhere/a.wav"), "no such permit"),
            (send(f"{PATH}/guessed", key="guessed/a.wav"), "no such permit"),
            (send(key=name, content=bytes(100_000)), "at most"),
        ):
            status, message = await sent
            assert status == 400 and complaint in message
        plain = await web.post(permit["upload_host"], content=b"sound")
        assert plain.status_code == 400
