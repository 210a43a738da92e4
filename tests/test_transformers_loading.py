"""Checkpoints that can be loaded, and what is said about those that can't."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from assistant.engines.transformers import TransformersEngine, TransformersSettings
from assistant.engines.transformers.files import find_checkpoint, weights_in
from assistant.engines.transformers.model import load
from assistant.engines.transformers.room import made_bytes
from assistant.errors import EngineError
from tests.tiny_architectures import build_qwen3_omni
from tests.tiny_models import build_qwen2_audio

ON_CPU = TransformersSettings(device="cpu", worker="thread")


@pytest.fixture(autouse=True)
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub, which itself can't be reached."""
    cache = tmp_path / "hub"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return cache


@pytest.fixture
def folder(tiny_qwen2_audio: Path, tmp_path: Path) -> Path:
    """A checkpoint to be spoiled."""
    return shutil.copytree(tiny_qwen2_audio, tmp_path / "checkpoint")


def edit(file: Path, change: Callable[[dict], None]) -> None:  # type: ignore[type-arg]
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def shard(folder: Path) -> None:
    """Spread the weights over two files with an index, as large checkpoints do."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    files = {
        "model-00001-of-00002.safetensors": names[: len(names) // 2],
        "model-00002-of-00002.safetensors": names[len(names) // 2 :],
    }
    for file, part in files.items():
        save_file({name: tensors[name] for name in part}, folder / file, {"format": "pt"})
    weight_map = {name: file for file, part in files.items() for name in part}
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def test_the_tiny_checkpoint_is_the_same_every_time(tiny_qwen2_audio: Path, tmp_path: Path) -> None:
    again = build_qwen2_audio(tmp_path)
    files = sorted(path.name for path in again.iterdir())
    assert sorted(path.name for path in tiny_qwen2_audio.iterdir()) == files
    assert all((again / f).read_bytes() == (tiny_qwen2_audio / f).read_bytes() for f in files)
    assert sum((again / file).stat().st_size for file in files) < 10**6


def test_a_folder_is_loaded_in_float32_on_the_cpu(folder: Path) -> None:
    checkpoint = load(str(folder), ON_CPU)
    assert type(checkpoint.model).__name__ == "Qwen2AudioForConditionalGeneration"
    assert (checkpoint.device.type, checkpoint.model.dtype) == ("cpu", torch.float32)
    assert checkpoint.context_tokens == 8192
    assert not checkpoint.model.training


def test_weights_may_be_in_several_files(folder: Path) -> None:
    whole = load(str(folder), ON_CPU).model.state_dict()
    shard(folder)
    parts = load(str(folder), ON_CPU).model.state_dict()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_what_the_cache_has_needs_no_network(hub: Path, folder: Path) -> None:
    repository = hub / "models--someone--tiny"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0123456789abcdef0123456789abcdef01234567")
    snapshot = repository / "snapshots" / "0123456789abcdef0123456789abcdef01234567"
    shutil.copytree(folder, snapshot)
    assert load("someone/tiny", ON_CPU).context_tokens == 8192
    assert find_checkpoint("someone/tiny") == snapshot
    proposed = repository / "refs" / "refs" / "pr"
    proposed.mkdir(parents=True)
    shutil.copy(repository / "refs" / "main", proposed / "7")
    assert find_checkpoint("someone/tiny@refs/pr/7") == snapshot
    with pytest.raises(EngineError, match=r"hf download someone/tiny --revision refs/pr/8$"):
        find_checkpoint("someone/tiny@refs/pr/8")
    # A download that was interrupted is not taken for a checkpoint.
    (snapshot / "model.safetensors").unlink()
    with pytest.raises(EngineError, match=r"can't be reached.*hf download someone/tiny"):
        load("someone/tiny", ON_CPU)


def test_an_unknown_model_without_a_network() -> None:
    with pytest.raises(EngineError, match=r"neither a folder nor in the cache.*hf download no/one"):
        load("no/one", ON_CPU)


@pytest.mark.parametrize(
    "name", ["./nowhere", "/no/such/folder", "a b", "~nobody-at-all/model", "long" * 2000]
)
def test_neither_a_folder_nor_an_id(name: str) -> None:
    with pytest.raises(EngineError, match="neither a folder that exists nor the hub id"):
        load(name, ON_CPU)


def test_a_folder_that_may_not_be_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    # Root, who may run the tests, is refused nothing.
    monkeypatch.setattr(Path, "is_dir", refused)
    with pytest.raises(EngineError, match=r"checkpoint can't be read: Permission denied\."):
        TransformersEngine(str(folder), ON_CPU)


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"not a whole checkpoint: it has no config\.json"):
        load(str(tmp_path), ON_CPU)


def test_a_folder_without_weights(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(EngineError, match=r"no model\.safetensors.*hf download MODEL --local-dir"):
        load(str(folder), ON_CPU)


def test_a_folder_that_lacks_a_shard(folder: Path) -> None:
    shard(folder)
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(EngineError, match=r"no model-00002-of-00002\.safetensors"):
        load(str(folder), ON_CPU)


@pytest.mark.parametrize(
    ("file", "lack"),
    [
        ("generation_config.json", "generation_config.json"),
        ("processor_config.json", "preprocessor_config.json or processor_config.json"),
        ("tokenizer_config.json", "tokenizer_config.json"),
        ("tokenizer.json", "tokenizer.json or vocab.json"),
    ],
)
def test_a_folder_that_lacks_what_belongs_to_the_weights(
    folder: Path, file: str, lack: str
) -> None:
    (folder / file).unlink()
    with pytest.raises(EngineError, match=f"it has no {re.escape(lack)}"):
        load(str(folder), ON_CPU)


@pytest.mark.parametrize(
    "file", ["config.json", "generation_config.json", "model.safetensors.index.json"]
)
def test_a_damaged_file_is_named(folder: Path, file: str) -> None:
    (folder / file).write_text("{nope")
    with pytest.raises(EngineError, match=re.escape(file)):
        load(str(folder), ON_CPU)


@pytest.mark.parametrize(
    "file", ["config.json", "generation_config.json", "tokenizer_config.json", "tokenizer.json"]
)
@pytest.mark.parametrize("content", ["[]", "null", '"qwen2_audio"'])
def test_a_file_that_holds_no_object_is_named(folder: Path, file: str, content: str) -> None:
    (folder / file).write_text(content)
    with pytest.raises(EngineError, match=rf"{re.escape(file)} is damaged: it holds no object\.$"):
        load(str(folder), ON_CPU)


def test_weights_that_were_cut_off(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100_000])
    with pytest.raises(EngineError, match="can't be loaded"):
        load(str(folder), ON_CPU)


def test_weights_of_another_model(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors[next(name for name in tensors if name.endswith("lm_head.weight"))]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(EngineError, match=r"1 tensors are missing.*such as lm_head\.weight"):
        load(str(folder), ON_CPU)


def test_another_architecture(folder: Path) -> None:
    edit(folder / "config.json", lambda config: config.update(config.pop("text_config")))
    with pytest.raises(EngineError, match=r"architecture qwen2, .*audio.*`assistant models`"):
        load(str(folder), ON_CPU)


@pytest.mark.parametrize(
    ("described", "complaint"),
    [
        ({"model_type": "mumble"}, "model type `mumble` .* architecture"),
        ({"model_type": None}, "model type `None` .* architecture"),
        ({"model_type": ["qwen2_audio"]}, "list"),
        (
            {"text_config": {"model_type": "mumble"}},
            "Unrecognized model type for subconfig: mumble",
        ),
    ],
)
def test_an_architecture_that_nobody_knows(
    folder: Path, described: dict[str, object], complaint: str
) -> None:
    edit(folder / "config.json", lambda config: config.update(described))
    known = rf"config\.json names no architecture that is known: .*{complaint}[^.]*\. Served are"
    with pytest.raises(EngineError, match=known):
        load(str(folder), ON_CPU)


def test_an_architecture_that_is_not_served_for_a_reason(folder: Path) -> None:
    edit(folder / "config.json", lambda config: config.update(model_type="ultravox"))
    with pytest.raises(EngineError, match=r"Ultravox: its code .* vLLM .*Served are .*voxtral"):
        load(str(folder), ON_CPU)


def test_code_in_a_checkpoint_is_not_run(folder: Path, tmp_path: Path) -> None:
    trap = tmp_path / "sprung"
    (folder / "code.py").write_text(f"open({str(trap)!r}, 'w')")
    edit(
        folder / "config.json",
        lambda config: config.update(model_type="mumble", auto_map={"AutoConfig": "code.Config"}),
    )
    with pytest.raises(EngineError):
        load(str(folder), ON_CPU)
    assert not trap.exists()


def test_too_little_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assistant.engines.transformers.room.free_bytes", lambda device: 500_000)
    with pytest.raises(EngineError, match=r"take 0\.7 MB of memory, and cpu has 0\.5 MB free"):
        load(str(folder), ON_CPU)


def test_what_is_mapped_takes_no_memory_on_its_way(folder: Path, tmp_path: Path) -> None:
    def made(folder: Path, dtype: torch.dtype) -> float:
        model = load(str(folder), ON_CPU).model
        whole = sum(weight.numel() for weight in model.parameters()) * dtype.itemsize
        return made_bytes(model, dtype, weights_in(folder)) / whole

    assert made(folder, torch.float32) == 0
    shard(folder)
    assert made(folder, torch.float32) == 0
    assert made(folder, torch.bfloat16) == 1
    # Experts are put together of tensors of their own.
    experts = build_qwen3_omni(tmp_path / "experts")
    assert 0.05 < made(experts, torch.float32) < 0.5


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_no_cuda_device(folder: Path) -> None:
    with pytest.raises(EngineError, match=r"no CUDA device.*device: cpu"):
        load(str(folder), TransformersSettings(device="cuda"))


async def test_the_engine_says_why_it_cannot_start(tmp_path: Path) -> None:
    engine = TransformersEngine(str(tmp_path), ON_CPU)
    with pytest.raises(EngineError, match="not a whole checkpoint"):
        await engine.start()
    await engine.close()


def spoilt_import(name: str, *args: object) -> None:
    raise OSError("libcudart.so.13: cannot open shared object file")


@pytest.mark.parametrize(
    ("finder", "reason"),
    [
        (None, r"import of assistant.* halted; None in sys.modules"),
        (SimpleNamespace(find_spec=spoilt_import), r"libcudart\.so\.13: cannot open shared object"),
    ],
)
async def test_what_can_not_be_imported(
    folder: Path, monkeypatch: pytest.MonkeyPatch, finder: object, reason: str
) -> None:
    for name in ("model", "generation"):
        monkeypatch.delitem(sys.modules, f"assistant.engines.transformers.{name}", raising=False)
    if finder:
        monkeypatch.setattr(sys, "meta_path", [finder])
    else:
        # What the import system itself keeps for a module that can't be imported.
        monkeypatch.setitem(sys.modules, "assistant.engines.transformers.model", None)
    engine = TransformersEngine(str(folder), ON_CPU)
    expected = rf"can't be imported: {reason}.*\. Install .* make run MODEL=.*\[gpu\]"
    with pytest.raises(EngineError, match=expected):
        await engine.start()
    await engine.close()


@pytest.mark.parametrize(("allowed", "tokens"), [(2048, 2048), (100_000, 8192)])
def test_a_conversation_has_as_many_tokens_as_allowed_and_possible(
    tiny_qwen2_audio: Path, allowed: int, tokens: int
) -> None:
    settings = TransformersSettings(device="cpu", max_context_tokens=allowed)
    assert load(str(tiny_qwen2_audio), settings).context_tokens == tokens
