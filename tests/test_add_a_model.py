"""A model is added as docs/models.md tells: an entry, a tiny checkpoint, a reference.

Then the tests of every other model are its tests too, here and in `test_transformers_models.py`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from assistant.engines.transformers.model import load
from assistant.engines.transformers.models.registry import ARCHITECTURES
from examples.glm_asr import GlmAsr
from tests.model_cards import MODELS
from tests.test_transformers_models import (  # noqa: F401
    Model,
    computed,
    test_a_conversation_of_speech_and_text,
    test_a_reply_in_bf16,
    test_audio_takes_as_many_tokens_as_its_encoder_gives,
    test_replies_of_several_take_steps_together,
    test_what_is_heard_matters,
)
from tests.test_transformers_session import ON_CPU


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Model:
    """A checkpoint that its entry serves, and the reference."""
    entry = GlmAsr()
    monkeypatch.setitem(ARCHITECTURES, entry.model_type, entry)
    build, card = MODELS["glmasr"]
    folder = build(tmp_path)
    checkpoint = load(str(folder), ON_CPU)
    assert checkpoint.architecture is entry
    return checkpoint, card(folder)
