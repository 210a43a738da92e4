"""What a failure means: told in a line, once, and to whom; and when the worker has to end."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from assistant.engines.engine import ReplyOptions
from assistant.engines.transformers import TransformersEngine, TransformersSettings
from assistant.engines.transformers.failures import is_sticky, told
from assistant.engines.transformers.generation import Generator
from assistant.engines.transformers.model import Checkpoint
from assistant.errors import EngineError
from tests.dialogue import prompt, user

IN_THREAD = TransformersSettings(device="cpu", worker="thread", temperature=0)
HELLO = prompt(user("Hello."))
TWO = ReplyOptions(max_output_tokens=2)


def of_the_device(code: int, message: str = "CUDA error: it failed") -> torch.AcceleratorError:
    """As torch raises it."""
    error = torch.AcceleratorError(message + "\nCUDA kernel errors might be reported later.")
    error.error_code = code  # type: ignore[attr-defined]
    return error


def coded(code: int) -> Exception:
    error = OSError("it failed")
    error.error_code = code  # type: ignore[attr-defined]
    return error


@pytest.mark.parametrize(
    ("error", "sticky"),
    [
        (of_the_device(700), True),
        (of_the_device(710), True),
        (of_the_device(719), True),
        (of_the_device(214), True),
        # An argument that a kernel doesn't take, a graph that can't be had.
        (of_the_device(9), False),
        (of_the_device(901), False),
        (torch.AcceleratorError("of another kind of device"), False),
        (torch.OutOfMemoryError("CUDA out of memory."), False),
        (RuntimeError("CUDA error: it failed"), False),
        (coded(700), False),
    ],
)
def test_what_a_device_does_not_recover_from(error: Exception, sticky: bool) -> None:
    assert is_sticky(error) == sticky


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (EngineError("It can't."), "It can't"),
        (of_the_device(700), "CUDA error: it failed"),
        (FileNotFoundError(2, "No such file", "a.json"), "[Errno 2] No such file: 'a.json'"),
        (KeyError("heads"), "KeyError: 'heads'"),
        (AssertionError(), "AssertionError"),
        (RuntimeError("\n"), "RuntimeError"),
    ],
)
def test_a_failure_is_told_in_a_line(error: Exception, line: str) -> None:
    assert told(error) == line


async def answer(engine: TransformersEngine) -> int:
    """How many parts the answer to a greeting has."""
    session = await engine.open_session()
    return len([event async for event in session.reply(HELLO, TWO)])


async def test_a_worker_whose_device_is_lost_ends_and_is_started_again(
    tiny_qwen2_audio: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    engine = TransformersEngine(str(tiny_qwen2_audio), IN_THREAD)
    await engine.start()
    parts = await answer(engine)
    real, errors = Generator.tokens_after, [of_the_device(9), of_the_device(700)]

    def failing(self: Generator, generations: Any) -> list[int]:
        if errors:
            raise errors.pop(0)
        return real(self, generations)

    monkeypatch.setattr(Generator, "tokens_after", failing)
    with pytest.raises(EngineError, match=r"^The model failed: CUDA error: it failed\.$"):
        await answer(engine)
    assert len(caplog.records) == 1 and not errors[1:]
    lost = "The model's worker has given up: CUDA error: it failed."
    with pytest.raises(EngineError, match=f"^{lost}$"):
        await answer(engine)
    assert await answer(engine) == parts
    assert [record.getMessage() for record in caplog.records[1:]] == [
        f"{lost} It is started again."
    ]
    await engine.close()


def spoil(folder: Path, file: str, **changes: object) -> None:
    content = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps(content | changes))


@pytest.mark.parametrize(
    ("generation", "reason"),
    [
        ({"suppress_tokens": [99_999_999]}, "IndexError: .*"),
        ({"temperature": "hot", "do_sample": True}, "TypeError: .*"),
        ({"eos_token_id": "x"}, None),
        ({"eos_token_id": [1, None]}, None),
    ],
)
async def test_what_is_wrong_with_a_checkpoint_is_told_in_a_line_and_once(
    tiny_qwen2_audio: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    generation: dict[str, object],
    reason: str | None,
) -> None:
    folder = shutil.copytree(tiny_qwen2_audio, tmp_path / "checkpoint")
    spoil(folder, "generation_config.json", **generation)
    expected = rf"checkpoint is loaded, but can't answer: {reason}\.$"
    if reason is None:
        expected = r"generation_config.json: eos_token_id is .*, and not the number of a token"
    settings = IN_THREAD.model_copy(update={"temperature": None})
    engine = TransformersEngine(str(folder), settings)
    with caplog.at_level(logging.INFO), pytest.raises(EngineError, match=expected) as raised:
        await engine.start()
    assert "\n" not in str(raised.value)
    assert not [record for record in caplog.records if record.name.startswith("assistant")]
    await engine.close()


async def test_a_template_that_is_broken(tiny_qwen2_audio: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_qwen2_audio, tmp_path / "checkpoint")
    (folder / "chat_template.jinja").write_text("{{ message")
    engine = TransformersEngine(str(folder), IN_THREAD)
    with pytest.raises(EngineError, match=r"can't answer: TemplateSyntaxError: .*[^.]\.$"):
        await engine.start()
    await engine.close()


async def test_logits_that_are_no_numbers(
    tiny_qwen2_audio: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Checkpoint.logits
    monkeypatch.setattr(Checkpoint, "logits", lambda self, hidden: real(self, hidden) * torch.nan)
    engine = TransformersEngine(str(tiny_qwen2_audio), IN_THREAD)
    with pytest.raises(EngineError, match=r"can't answer: .* its logits are no numbers\.$"):
        await engine.start()
    await engine.close()


async def test_nothing_is_drawn_where_there_is_no_terminal(
    tiny_qwen2_audio: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    engine = TransformersEngine(str(tiny_qwen2_audio), IN_THREAD)
    await engine.start()
    await engine.close()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["cache_gb", "step_timeout_s", "repetition_penalty"])
@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_settings_are_finite(name: str, value: float) -> None:
    with pytest.raises(ValidationError, match=name):
        TransformersSettings.model_validate({name: value})
