"""A whole spoken conversation over the wire with each voice activity detector."""

from __future__ import annotations

from collections import Counter

import pytest

from assistant.config import Config
from tests.speech import join, noise_floor, phrase, prompt, silence
from tests.test_openai_sdk import conversation

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("vad", ["cascade", "silero", "webrtc"])
async def test_two_turns_the_second_with_a_pause(vad: str) -> None:
    config = Config.load(overrides={"turns": {"vad": vad}})
    first = join(silence(1_000), prompt("hello-world"), silence(1_500))
    paused = join(prompt("vm-goodbye"), silence(400), phrase("Front_Center"), silence(1_500))
    async with conversation(config) as client:
        await client.sees("session.created")
        await client.says(noise_floor(first, -60))
        assert await client.reply()
        await client.says(noise_floor(paused, -60))
        assert await client.reply()
        seen = Counter(event["type"] for event in client.events)
    assert seen["input_audio_buffer.speech_started"] == 2
    assert seen["input_audio_buffer.speech_stopped"] == 2
    assert seen["input_audio_buffer.committed"] == 2
    assert seen["response.done"] == 2
    assert seen["error"] == 0
