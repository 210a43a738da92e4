"""A transcript by a model that knows a request for one, which is Voxtral's own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from assistant.engines.transformers import TransformersEngine, TransformersSettings
from assistant.errors import EngineError
from assistant.transcribe import transcribe
from audio_io.sources import SourceLimits
from tests.answering_engine import AnsweringModel
from tests.dialogue import prompt, user
from tests.model_cards import VoxtralCard
from tests.speech import join, silence, write_wav
from tests.speech import prompt as recording
from tests.tiny_architectures import TEKKEN_CONTROL, TEKKEN_SPECIALS, build_voxtral

TOKENS = 12
SPOKEN = recording("hello-world")


@pytest.mark.parametrize("language", ["", "en"])
async def test_voxtral_is_asked_as_mistral_common_asks_it(language: str, tmp_path: Path) -> None:
    folder = build_voxtral(tmp_path / "model")
    settings = TransformersSettings(device="cpu", worker="thread", max_output_tokens=TOKENS)
    engine = TransformersEngine(str(folder), settings)
    file = str(write_wav(tmp_path / "sound.wav", SPOKEN))
    written: list[str] = []
    await transcribe(engine, file, language, write=written.append, limits=SourceLimits())

    card = VoxtralCard(folder)
    inputs = dict(card.inputs(prompt(user(SPOKEN))))
    control = {token: id_ for id_, token in TEKKEN_CONTROL.items()}
    request = [TEKKEN_SPECIALS + byte for byte in (f"lang:{language}" if language else "").encode()]
    ids = [*inputs["input_ids"][0].tolist(), *request, control["[TRANSCRIBE]"]]
    inputs["input_ids"] = torch.tensor([ids])
    reply = card.model.generate(**inputs, max_new_tokens=TOKENS)[0, len(ids) :].tolist()
    expected = bytes(id_ - TEKKEN_SPECIALS for id_ in reply if id_ >= TEKKEN_SPECIALS).decode()
    assert "".join(written) == expected + "\n"


async def test_what_is_long_is_written_down_part_by_part(tmp_path: Path) -> None:
    engine = AnsweringModel(["Hello."])
    engine.info = replace(engine.info, transcribes=True, max_audio_s=30.0)
    long = join(SPOKEN, silence(20_000), SPOKEN, silence(15_000), SPOKEN)
    file = str(write_wav(tmp_path / "sound.wav", long))
    written: list[str] = []
    await transcribe(engine, file, "en", write=written.append, limits=SourceLimits())
    assert written == ["Hello.", "\n", "Hello.", "\n"]
    assert [reply.options.transcribe for reply in engine.replies] == ["en", "en"]


async def test_a_model_that_knows_no_such_request(tmp_path: Path) -> None:
    engine = AnsweringModel()
    file = str(write_wav(tmp_path / "sound.wav", SPOKEN))
    with pytest.raises(EngineError, match=r"no request for a transcript.*assistant ask .*sound"):
        await transcribe(engine, file, write=lambda _: None, limits=SourceLimits())
    assert engine.times_closed == 1
