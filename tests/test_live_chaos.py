"""The session at work, whatever comes in whatever order: nothing is lost, and nothing hangs."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assistant.engines.engine import ToolCall
from assistant.errors import EngineError, GaveWayError, PromptTooLongError
from tests.scripted_engine import ScriptedReply
from tests.test_live_session import connected, loud, quiet
from tests.virtual_time import run

BESIDE = {"conversation": "none", "input": [{"type": "item_reference", "id": "item_1"}]}
TEXT = {"role": "user", "type": "message", "content": [{"type": "input_text", "text": "Hi"}]}
SOUND = base64.b64encode(loud(200).tobytes()).decode()
DETECTION = [None, {"type": "server_vad"}, {"type": "server_vad", "idle_timeout_ms": 2000}]

client_events = st.one_of(
    st.sampled_from(
        [
            {"type_": "response.create"},
            {"type_": "response.create", "response": BESIDE},
            {"type_": "response.create", "response": {"conversation": "none"}},
            {"type_": "response.cancel"},
            {"type_": "response.cancel", "response_id": "resp_1"},
            {"type_": "input_audio_buffer.append", "audio": SOUND},
            {"type_": "input_audio_buffer.commit"},
            {"type_": "input_audio_buffer.clear"},
            {"type_": "conversation.item.create", "item": TEXT},
        ]
    ),
    st.integers(1, 4).map(
        lambda number: {"type_": "conversation.item.delete", "item_id": f"item_{number}"}
    ),
    st.builds(
        lambda detection, transcription: {
            "type_": "session.update",
            "session": {
                "audio": {"input": {"turn_detection": detection, "transcription": transcription}}
            },
        },
        st.sampled_from(DETECTION),
        st.sampled_from([None, {}]),
    ),
)
actions = st.one_of(
    st.tuples(st.just("loud"), st.sampled_from([300, 600])),
    st.tuples(st.just("quiet"), st.sampled_from([300, 1000])),
    st.tuples(st.just("wait"), st.sampled_from([0.01, 3.0])),
    st.tuples(st.sampled_from(["says", "ends", "calls"]), st.integers(0, 3)),
    st.tuples(st.just("fails"), st.integers(0, 3)),
    st.tuples(st.just("client"), client_events),
)
FAILURES = [
    EngineError("out of memory"),
    GaveWayError("It gave way."),
    PromptTooLongError("too long", text_tokens=9000, audio_tokens=0),
    ValueError("a bug"),
]


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(actions, max_size=25))
def test_whatever_happens_every_response_ends(
    caplog: pytest.LogCaptureFixture, script: list[tuple[str, Any]]
) -> None:
    async def main() -> None:
        async with connected() as (client, model):

            def unfinished() -> list[ScriptedReply]:
                return [reply for reply in model.replies if reply not in finished]

            finished: list[ScriptedReply] = []
            for action, how in script:
                going_on = unfinished()
                match action:
                    case "loud":
                        await client.says(loud(how))
                    case "quiet":
                        await client.says(quiet(how))
                    case "wait":
                        await asyncio.sleep(how)
                    case "client":
                        await client.send(**how)
                    case "says" if going_on:
                        going_on[how % len(going_on)].says(" so")
                    case "calls" if going_on:
                        call = ToolCall("call_1", "unknown", "{}", (1,))
                        going_on[how % len(going_on)].script.put_nowait(call)
                    case "ends" if going_on:
                        finished.append(going_on[how % len(going_on)])
                        finished[-1].ends()
                    case "fails" if going_on:
                        finished.append(going_on[how % len(going_on)])
                        finished[-1].script.put_nowait(FAILURES[how])
                # What this has set going is done, but for what waits for the model.
                await asyncio.sleep(0.001)
            # Nobody says any more, and the model comes to its ends.
            off = {"turn_detection": None, "transcription": None}
            await client.send("session.update", session={"audio": {"input": off}})
            await asyncio.sleep(1)
            while going_on := unfinished():
                for reply in going_on:
                    reply.ends()
                finished += going_on
                await asyncio.sleep(1)
            assert client._watch.responses == {}
            # What was too long has dropped the oldest.
            kept = [message.id for message in client.session.messages]
            assert set(kept) <= set(client._watch.items) and len(set(kept)) == len(kept)

    caplog.clear()
    run(main())
    broken = [record for record in caplog.records if record.exc_info]
    assert all(isinstance(record.exc_info[1], ValueError) for record in broken if record.exc_info)
