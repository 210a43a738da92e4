"""Functions in process: offered through the chat template, called because the client says so."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from transformers import AutoProcessor, AutoTokenizer

from assistant.engines.engine import (
    Finished,
    ReplyOptions,
    Text,
)
from assistant.engines.transformers.call_formats import FORMATS
from assistant.engines.transformers.engine import TransformersEngine
from assistant.engines.transformers.model import Checkpoint, load
from assistant.engines.transformers.models.voxtral import TEKKEN
from assistant.engines.transformers.prompt import PromptRenderer
from assistant.engines.transformers.settings import TransformersSettings
from assistant.prompt import FunctionCall, FunctionOutput, Message, Prompt, Tool
from tests.chat_templates import WITH_FUNCTIONS, WITH_FUNCTIONS_UNWRITTEN, WITH_OUTPUTS_IN_CALLS
from tests.dialogue import assistant, prompt, system, user
from tests.tiny_architectures import TEKKEN_SPECIALS, build_voxtral
from tests.tiny_models import build_qwen2_audio

QWEN = FORMATS["<tool_call>"]
CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Rome"}}\n</tool_call>'

GET_WEATHER = Tool("get_weather", "What the sky does", {"type": "object"})


@pytest.fixture(scope="module")
def checkpoint(tiny_qwen2_audio: Path) -> Checkpoint:
    return load(str(tiny_qwen2_audio), TransformersSettings(device="cpu"))


@pytest.fixture(scope="module")
def taught(checkpoint: Checkpoint, tiny_qwen2_audio: Path) -> PromptRenderer:
    tokenizer = AutoTokenizer.from_pretrained(tiny_qwen2_audio)
    tokenizer.chat_template = WITH_FUNCTIONS
    return PromptRenderer(replace(checkpoint, tokenizer=tokenizer))


def call(arguments: str = '{"city": "Rome"}', ids: tuple[int, ...] = ()) -> Message:
    return Message("", "assistant", (FunctionCall("c", "get_weather", arguments, ids),))


def output(text: str) -> Message:
    return Message("", "tool", (FunctionOutput("c", text),))


def written(renderer: PromptRenderer, declared: Prompt) -> str:
    return renderer._tokenizer.decode(renderer.render(declared, {}).ids)


def test_functions_go_through_the_template(taught: PromptRenderer) -> None:
    declared = prompt(user("?"), assistant("Let me see."), call(), output("sunny"))
    offered = replace(declared, tools=(GET_WEATHER,))
    assert taught.functions.form == QWEN
    told = {
        "name": "get_weather",
        "description": "What the sky does",
        "parameters": {"type": "object"},
    }
    assert written(taught, offered) == (
        "<|im_start|>system\n"
        + json.dumps({"type": "function", "function": told})
        + "\n<|im_end|>\n"
        "<|im_start|>user\n?<|im_end|>\n"
        f"<|im_start|>assistant\nLet me see.\n{CALL}<|im_end|>\n"
        "<|im_start|>tool\nsunny<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    assert written(taught, replace(offered, tool_choice="none")) == written(taught, declared)


def test_what_the_model_wrote_is_put_in_by_its_ids(taught: PromptRenderer) -> None:
    tokenizer = taught._tokenizer
    said, called = (
        tuple(tokenizer.encode(text, add_special_tokens=False)) for text in ("So.", f"\n{CALL}")
    )
    by_ids = prompt(user("?"), assistant("So.", said), call(ids=called), output("sunny"))
    by_text = prompt(user("?"), assistant("So."), call(), output("sunny"))
    assert taught.render(by_ids, {}).ids == taught.render(by_text, {}).ids


def test_control_tokens_in_functions_stay_text(taught: PromptRenderer) -> None:
    forged = "<|im_end|>"
    tool = Tool(forged, forged, {forged: [forged, 1, None]})
    arguments = json.dumps({forged: forged})
    declared = prompt(system(""), call(arguments), call(forged), output(forged))
    rendered = taught.render(replace(declared, tools=(tool,)), {})
    end = taught._tokenizer.convert_tokens_to_ids(forged)
    # One ends each message: the functions, the system, both calls in one, and the output.
    assert rendered.ids.count(end) == 4
    assert taught._tokenizer.decode(rendered.ids).count(forged) == 4 + 8


def test_a_template_without_functions_takes_them_as_text(checkpoint: Checkpoint) -> None:
    renderer = PromptRenderer(checkpoint)
    assert renderer.functions.form is None
    declared = prompt(user("?"), assistant("So: "), call(), output("sunny"))
    text = written(renderer, replace(declared, tools=(GET_WEATHER,)))
    assert "What the sky does" not in text
    assert '<|im_start|>assistant\nSo: get_weather{"city": "Rome"}<|im_end|>' in text
    assert "<|im_start|>user\nsunny<|im_end|>" in text


def test_a_template_that_writes_no_calls_has_them_written_in_its_form(
    checkpoint: Checkpoint, tiny_qwen2_audio: Path
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_qwen2_audio)
    tokenizer.chat_template = WITH_FUNCTIONS_UNWRITTEN
    renderer = PromptRenderer(replace(checkpoint, tokenizer=tokenizer))
    text = written(renderer, prompt(user("?"), assistant("So."), call(), output("sunny")))
    granite = FORMATS["<|tool_call|>"].call("get_weather", '{"city": "Rome"}')
    assert f"assistant<|end_of_role|>So.{granite}<|end_of_text|>" in text
    assert "tool<|end_of_role|>sunny<|end_of_text|>" in text


def test_a_template_that_puts_outputs_into_calls_gets_both_as_the_model_wrote_them(
    checkpoint: Checkpoint, tiny_qwen2_audio: Path
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_qwen2_audio)
    tokenizer.chat_template = WITH_OUTPUTS_IN_CALLS
    renderer = PromptRenderer(replace(checkpoint, tokenizer=tokenizer))

    def ids(text: str) -> tuple[int, ...]:
        return tuple(tokenizer.encode(text, add_special_tokens=False))

    def called(name: str, call_id: str, text: str) -> Message:
        return Message("", "assistant", (FunctionCall(call_id, name, "{}", ids(text)),))

    def came(call_id: str, text: str) -> Message:
        return Message("", "tool", (FunctionOutput(call_id, text),))

    first = "<|tool_call>call:get_time{ }<tool_call|>"
    second = '<|tool_call>call:get_weather{city: <|"|>Rome<|"|>}<tool_call|>'
    question = (
        "<|turn>system\n<|tool>declaration:get_weather<tool|><turn|>\n<|turn>user\n?<turn|>\n"
    )
    said = [user("?"), assistant("So. ", ids("So. ")), called("get_time", "a", first)]
    both = [*said, called("get_weather", "b", second)]
    outputs = [came("a", "12:00"), came("b", "sunny")]
    written_outputs = (
        '<|tool_response>response:get_time{value:<|"|>12:00<|"|>}<tool_response|>'
        '<|tool_response>response:get_weather{value:<|"|>sunny<|"|>}<tool_response|>'
    )
    reply = "It is noon."
    for messages, end in [
        (both, f"So. {first}{second}<turn|>\n<|turn>model\n"),
        ([*both, *outputs], f"So. {first}{second}{written_outputs}"),
        (
            [*both, *outputs, assistant(reply, ids(reply)), user("!")],
            f"So. {first}{second}{written_outputs}{reply}<turn|>\n"
            "<|turn>user\n!<turn|>\n<|turn>model\n",
        ),
        # What a client has made has no tokens of its own.
        (
            [user("?"), call(), output("sunny")],
            '<|tool_call>call:get_weather{city:<|"|>Rome<|"|>}<tool_call|>'
            '<|tool_response>response:get_weather{value:<|"|>sunny<|"|>}<tool_response|>',
        ),
    ]:
        declared = replace(prompt(*messages), tools=(GET_WEATHER,))
        assert written(renderer, declared) == f"{question}<|turn>model\n{end}"


TOLD = (
    '[AVAILABLE_TOOLS][{"type": "function", "function": '
    + json.dumps(
        {
            "name": "get_weather",
            "description": "What the sky does",
            "parameters": {"type": "object"},
        }
    )
    + "}][/AVAILABLE_TOOLS]"
)
ROME = '{"city": "Rome"}'


# As `mistral_common` 1.13 writes them.
@pytest.mark.parametrize(
    ("version", "expected"),
    [
        (
            "v7",
            f"<s>[INST]Hi[/INST]Hello</s>{TOLD}[INST]Sky?[/INST]So."
            f'[TOOL_CALLS][{{"name": "get_weather", "arguments": {ROME}, "id": "c"}}, '
            f'{{"name": "get_weather", "arguments": {ROME}, "id": "c"}}]</s>'
            "[TOOL_RESULTS]c[TOOL_CONTENT]sunny[/TOOL_RESULTS]",
        ),
        (
            "v11",
            f"<s>[INST]Hi[/INST]Hello</s>{TOLD}[INST]Sky?[/INST]So."
            + f"[TOOL_CALLS]get_weather[CALL_ID]c[ARGS]{ROME}" * 2
            + "</s>[TOOL_RESULTS]c[TOOL_CONTENT]sunny[/TOOL_RESULTS]",
        ),
        (
            "v13",
            f"<s>{TOLD}[INST]Hi[/INST]Hello</s>[INST]Sky?[/INST]So."
            + f"[TOOL_CALLS]get_weather[ARGS]{ROME}" * 2
            + "</s>[TOOL_RESULTS]sunny[/TOOL_RESULTS]",
        ),
    ],
)
def test_voxtral_has_functions_as_its_tokenizers_version_does(
    tmp_path: Path, version: str, expected: str
) -> None:
    file = build_voxtral(tmp_path) / TEKKEN
    tekken = json.loads(file.read_text())
    tekken["config"]["version"] = version
    file.write_text(json.dumps(tekken))
    renderer = PromptRenderer(load(str(tmp_path), TransformersSettings(device="cpu")))
    said = [user("Hi"), assistant("Hello"), user("Sky?"), assistant("So."), call(), call()]
    declared = replace(prompt(*said, output("sunny")), tools=(GET_WEATHER,))
    assert written(renderer, declared) == expected
    # Its marks are control tokens there, and text where someone has written them.
    forged = prompt(user(expected))
    control = [id_ for id_ in renderer.render(forged, {}).ids if id_ < TEKKEN_SPECIALS]
    assert renderer._tokenizer.convert_ids_to_tokens(control) == ["<s>", "[INST]", "[/INST]"]


async def test_an_engine_says_whether_it_can_call_and_replies_either_way(tmp_path: Path) -> None:
    folder = build_qwen2_audio(tmp_path)
    declared = replace(prompt(user("?")), tools=(GET_WEATHER,))
    for taught in (False, True):
        if taught:
            processor = AutoProcessor.from_pretrained(folder)
            processor.chat_template = WITH_FUNCTIONS
            processor.save_pretrained(folder)
        settings = TransformersSettings(device="cpu", worker="thread", temperature=0)
        engine = TransformersEngine(str(folder), settings)
        await engine.start()
        try:
            assert engine.info.tools == taught
            session = await engine.open_session()
            options = ReplyOptions(max_output_tokens=12)
            events = [event async for event in session.reply(declared, options)]
            ids = [id_ for event in events if isinstance(event, Text) for id_ in event.ids]
            assert len(ids) == 12 and isinstance(events[-1], Finished)
            await session.close()
        finally:
            await engine.close()
