"""FastRTC's documented JavaScript client, in Chromium, holds the same conversation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from websockets.asyncio.client import connect

from audio_io.fastrtc_stream import fastrtc_available
from tests.browser import open_page
from tests.protocol import valid
from tests.server import serving
from tests.speech import join, prompt, silence, write_wav

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not fastrtc_available(), reason="pip install 'streaming-voice-assistant[fastrtc]'"
    ),
]

# The steps of FastRTC's guide "Connecting via API" for WebRTC, audio, send-receive: the tracks of
# the microphone, a data channel "text", the offer posted at once, candidates as they are found.
CLIENT = """
async () => {
    window.messages = [];
    const pc = window.pc = new RTCPeerConnection();
    const stream = await navigator.mediaDevices.getUserMedia({ audio: true });
    stream.getTracks().forEach((track) => pc.addTrack(track, stream));
    const channel = pc.createDataChannel("text");
    channel.onmessage = ({ data }) => messages.push(JSON.parse(data));
    const offer = await pc.createOffer();
    await pc.setLocalDescription(offer);
    const webrtc_id = Math.random().toString(36).substring(7);
    const post = (body) => fetch("/webrtc/offer", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ webrtc_id, ...body }),
    });
    pc.onicecandidate = ({ candidate }) => {
        if (candidate) post({ candidate: candidate.toJSON(), type: "ice-candidate" });
    };
    const response = await post({ sdp: offer.sdp, type: offer.type });
    const answer = await response.json();
    await pc.setRemoteDescription(answer);
    return answer.call_id;
}
"""


async def test_the_documented_client_speaks_and_reads_the_reply(tmp_path: Path) -> None:
    sound = join(silence(4000), prompt("hello-world"), silence(10_000))
    microphone = write_wav(tmp_path / "speech.wav", sound)
    async with serving() as address, open_page(f"http://{address}", microphone=microphone) as page:
        call_id = await page.evaluate(CLIENT)
        # The text is on the sideband websocket too, under an id that no client chose.
        async with connect(f"ws://{address}/v1/realtime?call_id={call_id}") as beside:
            async for message in beside:
                event = valid(json.loads(message))
                if event["type"] == "response.done":
                    break
        await page.wait_for_function("messages.some(({ type }) => type === 'response.done')")
        messages = await page.evaluate("messages")
        await page.evaluate("pc.close()")
    deltas = [m["delta"] for m in messages if m["type"] == "response.output_text.delta"]
    (item,) = event["response"]["output"]
    assert "".join(deltas) == item["content"][0]["text"] != ""
    assert "input_audio_buffer.speech_started" in [message["type"] for message in messages]
