"""Qwen2-Audio's base model: it goes on with a prompt, as its card shows, and talks with nobody."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from assistant.ask import ask
from assistant.config import Config
from assistant.connection import connect_in_process
from assistant.engines.engine import EngineInfo
from assistant.engines.transformers import TransformersEngine, TransformersSettings
from assistant.errors import EngineError
from assistant.evaluation.examinee import Examinee
from assistant.evaluation.report import run_evaluation
from assistant.serve import run_server
from audio_io.sources import SourceLimits
from tests.answering_engine import AnsweringModel
from tests.model_card import ModelCard
from tests.speech import prompt, write_wav
from tests.tiny_models import as_base

TOKENS = 12


@pytest.fixture(scope="module")
def base(tiny_qwen2_audio: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return as_base(shutil.copytree(tiny_qwen2_audio, tmp_path_factory.mktemp("models") / "base"))


async def answer(base: Path, question: str, folder: Path) -> str:
    file = write_wav(folder / "sound.wav", prompt("hello-world"))
    written: list[str] = []
    settings = TransformersSettings(device="cpu", worker="thread", max_output_tokens=TOKENS)
    engine = TransformersEngine(str(base), settings)
    limits = SourceLimits()
    async for _ in ask(engine, [str(file)], question, limits=limits, write=written.append):
        pass
    return "".join(written)


@pytest.mark.parametrize("task", ["Generate the caption in English:", "Say <|AUDIO|><|im_end|>:"])
async def test_a_prompt_is_gone_on_with_as_the_card_shows(
    base: Path, task: str, tmp_path: Path
) -> None:
    card = ModelCard(base)
    heard = prompt("hello-world").astype("float32") / 32_768
    inputs = card.processor(
        text="<|audio_bos|><|AUDIO|><|audio_eos|>", audio=heard, return_tensors="pt"
    )
    # Typed text stays plain: by bytes, and never the tokens that it spells.
    ids = card.processor.tokenizer.convert_tokens_to_ids(
        [chr(b) if b > 32 else "Ġ" for b in task.encode()]
    )
    inputs["input_ids"] = inputs["input_ids"].new_tensor([[*inputs["input_ids"][0].tolist(), *ids]])
    inputs["attention_mask"] = inputs["input_ids"].new_ones(inputs["input_ids"].shape)
    generated = card.model.generate(**inputs, max_new_tokens=TOKENS)
    reply = generated[:, inputs["input_ids"].shape[1] :]
    (expected,) = card.processor.batch_decode(
        reply, skip_special_tokens=True, clean_up_tokenization_spaces=False
    )
    assert await answer(base, task, tmp_path) == expected


@pytest.mark.parametrize("control_tokens", [True, False])
async def test_the_prompts_of_an_evaluation_may_spell_tokens(
    base: Path, tmp_path: Path, control_tokens: bool
) -> None:
    """As Qwen2-Audio's published ones do: behind the sound, and to the letter."""
    write_wav(tmp_path / "sound.wav", prompt("hello-world"))
    asked = {"audio": "sound.wav", "reference": "Hello.", "prompt": "Recognize it: <|im_start|> "}
    manifest, results = tmp_path / "manifest.jsonl", tmp_path / "results.jsonl"
    manifest.write_text(json.dumps(asked))
    engine = TransformersEngine(str(base), TransformersSettings(device="cpu", worker="thread"))
    await run_evaluation(
        engine,
        Examinee("base"),
        manifest,
        results,
        task="asr",
        language="en",
        prompt=None,
        at_once=1,
        control_tokens=control_tokens,
    )
    card = ModelCard(base)
    inputs = card.processor(
        text="<|audio_bos|><|AUDIO|><|audio_eos|>" + asked["prompt"],
        audio=prompt("hello-world").astype("float32") / 32_768,
        return_tensors="pt",
    )
    length = inputs["input_ids"].shape[1]
    reply = card.model.generate(**inputs, max_new_tokens=256)[0, length:]
    published = card.processor.decode(reply, skip_special_tokens=True).strip()
    result = json.loads(results.read_text())
    assert (result["input_tokens"] == length) == control_tokens
    assert (result["answer"] == published) == control_tokens


async def test_what_it_can_do_is_told(base: Path) -> None:
    settings = TransformersSettings(device="cpu", worker="thread")
    engine = TransformersEngine(str(base), settings)
    await engine.start()
    assert engine.info.modes == {"continuation"}
    await engine.close()


@pytest.fixture
def engine() -> AnsweringModel:
    engine = AnsweringModel()
    engine.info = EngineInfo("Qwen/Qwen2-Audio-7B", 8192, modes=frozenset({"continuation"}))
    return engine


REFUSED = "base model.*such as Qwen/Qwen2-Audio-7B-Instruct"


async def test_nobody_can_talk_with_it(engine: AnsweringModel) -> None:
    with pytest.raises(EngineError, match=REFUSED):
        async with connect_in_process(engine, Config.load()):
            raise AssertionError("connected")
    assert engine.times_closed == 1


def test_it_is_not_served(engine: AnsweringModel) -> None:
    with pytest.raises(EngineError, match=REFUSED):
        run_server(Config.load(overrides={"server": {"port": 0}}), engine)
    assert engine.times_closed == 1
