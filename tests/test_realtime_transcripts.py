"""What the person said is written down beside the conversation, once its reply has begun."""

from __future__ import annotations

from typing import Any

import pytest

from assistant.engines.engine import Finished, Started, Text, Timings, TokenCount, ToolCall, Usage
from assistant.prompt import AudioPart, Prompt, TextPart
from assistant.realtime.effects import CancelReply, Close, Effect, StartReply
from assistant.realtime.quiet import EXPECTED_MS
from assistant.realtime.transcripts import INSTRUCTION, MAX_WAITING
from tests.protocol import sent, types
from tests.test_realtime_session import FINISHED, REPLY, TURN_TAKEN, Client, pcm, utterance

DELTA, COMPLETED, FAILED = (
    f"conversation.item.input_audio_transcription.{step}"
    for step in ("delta", "completed", "failed")
)
HEARD = (Started(REPLY[0].report), Text("Hello", (1,)), Text(" world", (2,)))
WRITTEN = Finished("stop", Usage(TokenCount(20, 25), TokenCount(), 2), Timings(1, 2, 3))


def transcribing(turn_detection: Any = None, **how: Any) -> Client:
    """A client that wants transcripts, and with `turn_detection` says how turns are cut."""
    input_ = {"transcription": {"model": "whisper-1", **how}}
    detection = {"turn_detection": turn_detection} if turn_detection != "none" else {}
    return Client(type="realtime", audio={"input": {**input_, **detection}})


def commits(client: Client, start: int = 1600) -> list[Effect]:
    """A turn that nobody asks to be answered: what comes of it once that is clear."""
    effects = client.session.flushed(utterance(start), None)
    client.now_ms += EXPECTED_MS
    return [*effects, *client.session.time(client.now_ms)]


def spoken_to(**how: Any) -> Client:
    return transcribing("none", **how)


def start_in(effects: list[Effect]) -> StartReply:
    (start,) = [effect for effect in effects if isinstance(effect, StartReply) and effect.side]
    return start


def writes(client: Client, start: StartReply, *events: Any) -> list[Effect]:
    return [e for event in events for e in client.session.generated(start.reply_id, event)]


def test_the_turn_is_transcribed_when_its_reply_has_begun() -> None:
    client = spoken_to()
    effects = client.speaks()
    assert types(effects)[-2:] == ["CommitReply", "response.created"]
    assert types(client.model_says(REPLY[0])) == []
    effects = client.model_says(REPLY[1])
    assert types(effects)[-2:] == ["response.output_text.delta", "StartReply"]
    start = start_in(effects)
    (message,) = start.prompt.messages
    audio = AudioPart.of(client.said.samples)
    assert start.prompt == Prompt((message,), task="transcription")
    assert message.parts == (audio, TextPart(INSTRUCTION))
    assert start.options.max_output_tokens == 47
    # Its deltas come between those of the reply, and the rest after it.
    events = sent([*writes(client, start, *HEARD), *client.model_says(*REPLY[2:])])
    assert [event["delta"] for event in events if event["type"] == DELTA] == ["Hello", " world"]
    (completed,) = sent(writes(client, start, WRITTEN))
    assert completed["type"] == COMPLETED
    assert (completed["item_id"], completed["content_index"]) == ("item_1", 0)
    assert completed["transcript"] == "Hello world"
    assert completed["usage"] == {
        "type": "tokens",
        "total_tokens": 47,
        "input_tokens": 45,
        "output_tokens": 2,
        "input_token_details": {"text_tokens": 20, "audio_tokens": 25},
    }


def test_the_item_shows_the_transcript_and_the_model_is_not_told() -> None:
    client = spoken_to()
    client.speaks()
    start = start_in(client.model_says(*REPLY))
    before = client.session.messages
    writes(client, start, *HEARD, WRITTEN)
    (event,) = sent(client.send("conversation.item.retrieve", item_id="item_1"))
    assert event["item"]["content"] == [{"type": "input_audio", "transcript": "Hello world"}]
    assert client.session.messages == before


def test_language_and_prompt_are_used() -> None:
    client = spoken_to(language="de", prompt="Namen: Anke, Uwe.")
    client.speaks()
    start = start_in(client.model_says(*REPLY))
    (message,) = start.prompt.messages
    (instruction,) = [part.text for part in message.parts if isinstance(part, TextPart)]
    assert instruction.startswith(INSTRUCTION)
    assert "'de'" in instruction and "Namen: Anke, Uwe." in instruction


def test_without_it_nothing_is_asked() -> None:
    client = Client()
    assert "StartReply" not in types([*client.speaks()[2:], *client.model_says(*REPLY)])


@pytest.mark.parametrize("end", ["fails", "is cancelled", "says nothing", "is interrupted"])
def test_a_reply_that_never_begins_is_not_waited_for(end: str) -> None:
    client = spoken_to()
    client.speaks()
    match end:
        case "fails":
            reply_id = client.session._dialogue._responder.id
            assert reply_id is not None
            effects = client.session.failed(reply_id, "out of memory")
        case "is cancelled":
            effects = client.send("response.cancel")
        case "says nothing":
            effects = client.model_says(FINISHED)
        case _:
            client.starts_to_speak(40_000)
            effects = client.keeps_speaking()
    assert types(effects)[-2:] == ["response.done", "StartReply"]
    assert start_in(effects).prompt.task == "transcription"


def test_a_turn_for_which_no_reply_is_asked_is_transcribed_soon() -> None:
    client = transcribing({"type": "server_vad", "create_response": False})
    assert types(client.speaks()) == ["input_audio_buffer.speech_started", *TURN_TAKEN]
    manual = transcribing(None)
    assert types(manual.session.flushed(utterance(), None)) == TURN_TAKEN[1:]
    for waiting in (client, manual):
        assert waiting.session.next_deadline_ms == EXPECTED_MS
        waiting.now_ms = EXPECTED_MS - 1
        assert waiting.session.time(waiting.now_ms) == []
        waiting.now_ms = EXPECTED_MS
        assert start_in(waiting.session.time(waiting.now_ms)).prompt.task == "transcription"
        assert waiting.session.next_deadline_ms == 60_000


def test_a_reply_that_is_asked_for_right_after_goes_first() -> None:
    client = transcribing(None)
    client.session.flushed(utterance(), None)
    assert types(client.send("response.create")) == ["StartReply", "response.created"]
    client.now_ms = 5000
    assert client.session.time(5000) == []
    assert types(client.model_says(*REPLY[:2]))[-1] == "StartReply"


def test_turns_are_transcribed_one_after_the_other() -> None:
    client = transcribing(None)
    first = start_in(commits(client))
    assert types(commits(client, 40_000)) == TURN_TAKEN[1:]
    effects = writes(client, first, *HEARD, WRITTEN)
    assert types(effects) == [DELTA, DELTA, COMPLETED, "StartReply"]
    second = start_in(effects)
    effects = writes(client, second, HEARD[1], WRITTEN)
    assert [event["item_id"] for event in sent(effects)] == ["item_2", "item_2"]


def test_a_failure_is_told_and_the_next_turn_goes_on() -> None:
    client = transcribing(None)
    first = start_in(commits(client))
    commits(client, 40_000)
    effects = client.session.failed(first.reply_id, "no words")
    assert types(effects) == [FAILED, "StartReply"]
    (failed,) = sent(effects)
    assert (failed["item_id"], failed["error"]["message"]) == ("item_1", "no words")
    assert writes(client, first, *HEARD) == []


def test_of_a_deleted_turn_nothing_more_is_told() -> None:
    client = transcribing(None)
    first = start_in(commits(client))
    commits(client, 40_000)
    commits(client, 80_000)
    # One that waits, and the one that is at it.
    assert types(client.send("conversation.item.delete", item_id="item_2")) == [
        "conversation.item.deleted"
    ]
    effects = client.send("conversation.item.delete", item_id="item_1")
    assert types(effects) == ["CancelReply", "conversation.item.deleted", "StartReply"]
    assert effects[0] == CancelReply(first.reply_id)
    assert writes(client, first, *HEARD, WRITTEN) == []
    third = start_in(effects)
    assert sent(writes(client, third, WRITTEN))[0]["item_id"] == "item_3"


def test_no_more_wait_than_can_be_told_of() -> None:
    client = transcribing(None)
    for _ in range(MAX_WAITING + 1):
        commits(client)
    effects = commits(client)
    assert types(effects) == [*TURN_TAKEN[1:], FAILED]


def test_a_model_that_calls_a_function_instead_has_written_nothing() -> None:
    client = transcribing(None)
    start = start_in(commits(client))
    call = ToolCall("call_1", "get_weather", "{}", (3,))
    (completed,) = sent(writes(client, start, call, WRITTEN))
    assert completed["transcript"] == ""


def test_a_transcript_of_the_client_s_own_is_shown_and_not_made_again() -> None:
    client = transcribing(None)
    content = [{"type": "input_audio", "audio": pcm(500), "transcript": "Hi"}]
    item = {"type": "message", "role": "user", "content": content}
    effects = client.send("conversation.item.create", item=item)
    assert types(effects) == TURN_TAKEN[2:]
    assert sent(effects)[0]["item"]["content"] == [{"type": "input_audio", "transcript": "Hi"}]


def test_silence_that_the_model_speaks_up_to_is_not_transcribed() -> None:
    client = spoken_to()
    client.speaks()
    start = start_in(client.model_says(*REPLY))
    writes(client, start, WRITTEN)
    client.session.flushed(utterance(40_000), None, idle=True)
    assert "StartReply" not in types(client.model_says(*REPLY))


def test_a_session_that_is_to_end_writes_down_what_it_promised() -> None:
    client = spoken_to()
    client.speaks()
    client.model_says(*REPLY[:1])
    assert client.session.leave("Bye.") == []
    first = start_in(client.model_says(*REPLY[1:]))
    client.speaks(40_000)
    ends = types(client.model_says(*REPLY))
    assert (ends[-1], "Close" in ends) == ("response.done", False)
    effects = writes(client, first, *HEARD, WRITTEN)
    assert types(effects) == [DELTA, DELTA, COMPLETED, "StartReply"]
    effects = writes(client, start_in(effects), *HEARD, WRITTEN)
    assert types(effects) == [DELTA, DELTA, COMPLETED, "Close"]
    assert effects[-1] == Close("Bye.")


def test_a_session_that_is_to_end_waits_for_no_transcript_of_what_was_deleted() -> None:
    client = transcribing(turn_detection=None)
    client.session.flushed(utterance(), None)
    assert client.session.leave("Bye.") == []
    effects = client.send("conversation.item.delete", item_id="item_1")
    assert types(effects) == ["conversation.item.deleted", "Close"]


def test_a_session_that_is_to_end_begins_what_waits_for_its_time() -> None:
    client = transcribing(turn_detection=None)
    client.session.flushed(utterance(), None)
    assert client.session.leave("Bye.") == []
    assert client.session.next_deadline_ms == EXPECTED_MS
    client.now_ms = EXPECTED_MS
    start = start_in(client.session.time(client.now_ms))
    assert types(client.session.failed(start.reply_id, "out of memory")) == [FAILED, "Close"]
