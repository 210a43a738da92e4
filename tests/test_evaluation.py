"""Scoring a model on recordings with known transcripts."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.config import ModelConfig
from assistant.engines.engine import Engine, EngineInfo, ReplyOptions
from assistant.engines.openai_compatible.engine import OpenAICompatibleEngine
from assistant.engines.openai_compatible.settings import OpenAICompatibleSettings
from assistant.errors import ConfigError, EngineError
from assistant.evaluation.examinee import Examinee, examinee
from assistant.evaluation.manifest import read_manifest
from assistant.evaluation.report import run_evaluation
from assistant.evaluation.results import default_results
from assistant.evaluation.scoring import Answer, Task, normalised, score
from assistant.prompt import AudioPart, Prompt, TextPart
from tests.answering_engine import AnsweringModel
from tests.chat_server import ChatServer, chat_server
from tests.scripted_engine import ScriptedReply
from tests.speech import prompt, transcript, write_wav

SAID = ("vm-goodbye", "hello-world", "demo-nomatch")


Config = dict[str, Any]
A: Config = {"base_urls": ["http://a/v1"]}
A_WITH_PASSWORD: Config = {"base_urls": ["http://me:secret@a/v1"]}
B: Config = {"base_urls": ["http://b/v1"]}
TOP_K: Config = {"parameters": {"top_k": 1}}


class Listener(AnsweringModel):
    """Knows some recordings by heart, and fails with all others."""

    def __init__(self, known: Mapping[str, str]) -> None:
        super().__init__()
        self._known = {AudioPart.of(prompt(name)).digest: text for name, text in known.items()}
        self.asked: list[str] = []

    def reply(self, prompt: Prompt, options: ReplyOptions, *, side: bool = False) -> ScriptedReply:
        audio, question = prompt.messages[-1].parts
        assert isinstance(audio, AudioPart) and isinstance(question, TextPart)
        self.asked.append(question.text)
        text = self._known.get(audio.digest)
        self._scripts = [[EngineError("out of memory") if text is None else text]]
        return super().reply(prompt, options, side=side)


def manifest(folder: Path, **fields: Any) -> Path:
    """Of the recordings in `SAID`, as wav files beside it."""
    lines = []
    for name in SAID:
        write_wav(folder / f"{name}.wav", prompt(name))
        line = {"audio": f"{name}.wav", "reference": transcript(name)}
        lines.append(json.dumps(line | fields))
    path = folder / "said.jsonl"
    path.write_text("\n".join(lines))
    return path


async def run(
    folder: Path,
    engine: Engine,
    at_once: int = 2,
    task: str = "asr",
    model: str = "listener",
    settings: Mapping[str, Any] = MappingProxyType({}),
    control_tokens: bool = False,
) -> None:
    await run_evaluation(
        engine,
        Examinee(model, dict(settings)),
        folder / "said.jsonl",
        folder / "results.jsonl",
        task=task,
        language="en",
        prompt="Write it down.",
        at_once=at_once,
        control_tokens=control_tokens,
    )


async def test_what_was_said_against_the_transcripts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest(tmp_path)
    known = {name: transcript(name) for name in SAID}
    words = sum(len(normalised(text, "en").split()) for text in known.values())
    # What differs in case and punctuation is right; one word is left out.
    known["vm-goodbye"] = known["vm-goodbye"].upper() + "!"
    known["demo-nomatch"] = known["demo-nomatch"].rsplit(" ", 1)[0]
    engine = Listener(known)
    await run(tmp_path, engine)
    assert engine.asked == ["Write it down."] * 3
    expected = (
        f"3 items, word error rate, % {100 / words:.2f} (0 substituted, 1 left out, 0 put in, "
        f"{words - 1} right)\n"
    )
    assert capsys.readouterr().out == expected


@pytest.mark.parametrize("torn", [b'{"line":3,"aud', '{"line":3,"audio":"é'.encode()[:-1]])
async def test_a_run_is_taken_up_where_it_ended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], torn: bytes
) -> None:
    manifest(tmp_path)
    with pytest.raises(EngineError, match="1 of 3 items have no answer"):
        await run(tmp_path, Listener({name: transcript(name) for name in SAID[:2]}))
    seen = capsys.readouterr()
    assert "2 items, word error rate, % 0.00" in seen.out
    assert "line 3: out of memory" in seen.err
    results = tmp_path / "results.jsonl"
    # As where the machine went down in the midst of a line.
    results.write_bytes(results.read_bytes() + torn)
    engine = Listener({name: transcript(name) for name in SAID})
    await run(tmp_path, engine)
    assert len(engine.asked) == 1
    assert "3 items, word error rate, % 0.00" in capsys.readouterr().out
    assert len(results.read_text().splitlines()) == 3


async def test_an_answer_of_several_lines_is_one_line(tmp_path: Path) -> None:
    manifest(tmp_path)
    said = dict.fromkeys(SAID, "one\ntwo\r\nthree\u2028four\x85")
    await run(tmp_path, Listener(said))
    engine = Listener(said)
    await run(tmp_path, engine)
    assert engine.asked == []


async def test_another_prompt_is_another_question(tmp_path: Path) -> None:
    manifest(tmp_path)
    await run(tmp_path, Listener(dict.fromkeys(SAID, "")))
    manifest(tmp_path, prompt="What is said?")
    engine = Listener(dict.fromkeys(SAID, ""))
    await run(tmp_path, engine)
    assert engine.asked == ["What is said?"] * 3


async def test_each_source_has_a_score_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = manifest(tmp_path, source="clean")
    write_wav(tmp_path / "other.wav", prompt("vm-goodbye"))
    other = {"audio": "other.wav", "gt": ["hello", "Goodbye."], "source": "other"}
    path.write_text(path.read_text() + "\n" + json.dumps(other) + "\n")
    await run(tmp_path, Listener(dict.fromkeys(SAID, "It said: goodbye, twice.")), task="qa")
    assert capsys.readouterr().out == (
        "clean: 3 items, accuracy, % 33.33 (1 of 3)\nother: 1 items, accuracy, % 100.00 (1 of 1)\n"
    )


async def test_a_recording_that_cannot_be_read_fails_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest(tmp_path)
    (tmp_path / "vm-goodbye.wav").write_bytes(b"no sound")
    with pytest.raises(EngineError, match="1 of 3"):
        await run(tmp_path, Listener({name: transcript(name) for name in SAID}))
    seen = capsys.readouterr()
    assert "2 items" in seen.out and "vm-goodbye.wav" in seen.err


def test_each_manifest_has_results_of_its_own() -> None:
    names = ("a/set.jsonl", "a/set.json", "a/set.v1.jsonl", "a/set.v2.jsonl")
    assert [str(default_results(Path(name))) for name in names] == [
        "a/set.results.jsonl",
        "a/set.json.results.jsonl",
        "a/set.v1.results.jsonl",
        "a/set.v2.results.jsonl",
    ]


async def test_results_that_can_not_be_written_end_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Long lines, so that no other file of this process comes near the limit.
    manifest(tmp_path, prompt="What? " * 50_000)
    known = {name: transcript(name) for name in SAID}
    with pytest.raises(EngineError, match="2 of 3"):
        await run(tmp_path, Listener({SAID[0]: known[SAID[0]]}))
    results = tmp_path / "results.jsonl"
    whole = results.read_bytes()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 1000, before[1]))
    try:
        with pytest.raises(OSError, match=r"File too large: .*results\.jsonl"):
            await run(tmp_path, Listener(known), at_once=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert results.read_bytes() == whole
    await run(tmp_path, Listener(known))
    assert "3 items, word error rate, % 0.00" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "holds nothing to evaluate"),
        ("{}", "line 1: audio: Field required"),
        ('\n{"audio": "a.wav", "prompt": "What?"}', "line 2: reference: Field required"),
        ('{"audio": "a.wav", "reference": []}', "line 1: reference"),
        ('{"audio": "a.wav", "reference": " "}', "line 1: reference"),
        ("audio: a.wav", "line 1: Invalid JSON"),
        ('{"audio": "\udcff"}', "line 1: Invalid JSON: invalid unicode"),
        ('{"audio": "a.wav", "reference": "b"}', "line 1: there is no prompt; give one for all"),
    ],
)
def test_what_is_wrong_with_a_manifest(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "manifest.jsonl"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ConfigError, match=complaint):
        read_manifest(path, prompt=None)


def test_texts_may_hold_line_separators(tmp_path: Path) -> None:
    path = tmp_path / "manifest.jsonl"
    path.write_text('{"audio": "a.wav", "reference": "one\u2028two\x85"}', encoding="utf-8")
    (item,) = read_manifest(path, prompt="What?")
    assert item.references == ("one\u2028two",)


@pytest.mark.parametrize("text", ["my diary\n", "my diary", '{"audio": "a.wav"}'])
async def test_results_are_not_written_into_just_any_file(tmp_path: Path, text: str) -> None:
    manifest(tmp_path)
    (tmp_path / "results.jsonl").write_text(text)
    with pytest.raises(ConfigError, match="name another file by --results"):
        await run(tmp_path, Listener({}))
    assert (tmp_path / "results.jsonl").read_text() == text


async def test_a_task_that_there_is_not(tmp_path: Path) -> None:
    manifest(tmp_path)
    with pytest.raises(ConfigError, match="asr, translation, classification, qa"):
        await run(tmp_path, Listener({}), task="karaoke")


async def test_another_reading_of_a_prompt_is_another_question(tmp_path: Path) -> None:
    manifest(tmp_path, prompt="<|en|>")
    base = EngineInfo("base", 8192, modes=frozenset({"continuation"}))
    for control_tokens, times in ((False, 3), (True, 3), (True, 0)):
        engine = Listener(dict.fromkeys(SAID, ""))
        engine.info = base
        await run(tmp_path, engine, control_tokens=control_tokens)
        assert engine.asked == ["<|en|>"] * times


async def test_control_tokens_are_for_base_models(tmp_path: Path) -> None:
    manifest(tmp_path)
    with pytest.raises(ConfigError, match="is no base model in process"):
        await run(tmp_path, Listener({}), control_tokens=True)


async def test_another_model_behind_the_same_address_is_asked_anew(tmp_path: Path) -> None:
    """Where the servers tell what they have, and nobody else names it."""
    manifest(tmp_path)
    for model, times in (("a", 3), ("b", 3), ("a", 0)):
        engine = Listener(dict.fromkeys(SAID, ""))
        engine.info = EngineInfo(model, 8192)
        await run(tmp_path, engine, model="")
        assert len(engine.asked) == times


async def test_other_settings_are_another_examinee(tmp_path: Path) -> None:
    manifest(tmp_path)
    for settings, times in (({"weights": "full"}, 3), ({"weights": "int8"}, 3), ({}, 3), ({}, 0)):
        engine = Listener(dict.fromkeys(SAID, ""))
        await run(tmp_path, engine, settings=settings)
        assert len(engine.asked) == times


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({}, {"engine": "embedded"}, True),
        ({"name": "a"}, {"name": "a", "engine": "transformers"}, True),
        ({"name": "a"}, {"name": "b"}, False),
        ({"name": "a"}, {"name": "a", "transformers": {"weights": "int8"}}, False),
        ({"name": "a"}, {"name": "a", "transformers": {"repetition_penalty": 1.1}}, False),
        # What is for sampling, or makes it faster.
        ({"name": "a"}, {"name": "a", "transformers": {"temperature": 1, "steps": "plain"}}, True),
        ({"openai_compatible": A}, {"openai_compatible": B}, False),
        ({"openai_compatible": A}, {"openai_compatible": A | {"token_timeout_s": 9}}, True),
        ({"openai_compatible": A}, {"openai_compatible": A | {"extra_body": {"seed": 1}}}, False),
        ({"openai_compatible": A}, {"openai_compatible": A_WITH_PASSWORD}, True),
        ({"openai_compatible": A}, {"name": "a", "openai_compatible": A}, False),
        ({"engine": "dashscope"}, {"engine": "dashscope", "dashscope": {"max_retries": 9}}, True),
        ({"engine": "dashscope"}, {"engine": "dashscope", "dashscope": TOP_K}, False),
    ],
)
def test_whose_answers_are_whose(one: Config, other: Config, same: bool) -> None:
    examinees = [examinee(ModelConfig.model_validate(config)) for config in (one, other)]
    assert (examinees[0] == examinees[1]) is same


def test_another_checkpoint_in_the_same_folder_is_another_examinee(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"first")
    config = ModelConfig(name=str(tmp_path))
    before = examinee(config)
    assert before == examinee(ModelConfig(name=str(tmp_path / ".." / tmp_path.name)))
    (tmp_path / "model.safetensors").write_bytes(b"second")
    assert before != examinee(config)


async def test_air_bench_goes_in_and_comes_out(tmp_path: Path) -> None:
    asked = {
        "path": "1.wav",
        "task_name": "Speaker_Emotion",
        "dataset_name": "iemocap",
        "question": "How does the speaker feel?",
        "choice_a": "happy",
        "choice_b": "sad",
        "answer_gt": "sad",
        "uniq_id": 0,
    }
    (tmp_path / "Foundation_meta.json").write_text(json.dumps([asked]))
    (tmp_path / "Speaker_Emotion_iemocap").mkdir()
    write_wav(tmp_path / "Speaker_Emotion_iemocap" / "1.wav", prompt("vm-goodbye"))

    def converted(way: str) -> str:
        program = Path(__file__).parents[1] / "examples" / "air_bench.py"
        command = [sys.executable, str(program), way, str(tmp_path)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    manifest = tmp_path / "manifest.jsonl"
    manifest.write_text(converted("manifest"))
    (item,) = read_manifest(manifest, prompt=None)
    assert item.prompt.splitlines()[1:] == [
        "How does the speaker feel?",
        "A. happy",
        "B. sad",
        "C. None",
        "D. None",
    ]
    assert (item.references, item.source) == (("sad",), "Speaker_Emotion_iemocap")
    results = tmp_path / "manifest.results.jsonl"
    await run_evaluation(
        Listener({"vm-goodbye": "B."}),
        Examinee("listener"),
        manifest,
        results,
        task="qa",
        language="en",
        prompt=None,
        at_once=1,
    )
    assert json.loads(converted("responses")) == {**asked, "response": "B."}


@pytest.fixture
async def server() -> AsyncIterator[ChatServer]:
    async with chat_server() as server:
        yield server


async def test_servers_are_asked_for_what_is_likeliest(tmp_path: Path, server: ChatServer) -> None:
    """Whatever else the settings say."""
    manifest(tmp_path)
    settings = OpenAICompatibleSettings(
        base_urls=(server.base_url,), extra_body={"temperature": 0.7, "top_p": 0.9}
    )
    await run(tmp_path, OpenAICompatibleEngine(None, settings))
    assert [
        (request["temperature"], request["top_p"], request["max_tokens"])
        for request in server.requests
    ] == [(0, 0.9, 256)] * 3


WORDS = st.lists(st.sampled_from(["one", "two", "red", "blue"]), min_size=1, max_size=8)


@given(pairs=st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=5))
def test_the_word_error_rate_is_edits_over_words(pairs: list[tuple[list[str], list[str]]]) -> None:
    answers = [Answer(" ".join(said), (" ".join(right),)) for said, right in pairs]
    # In a language in which numbers stay words.
    rate = score("asr", answers, "fr").percent
    edits = sum(distance(said, right) for said, right in pairs)
    assert rate == pytest.approx(100 * edits / sum(len(right) for _, right in pairs))


def distance(a: list[str], b: list[str]) -> int:
    """Levenshtein's, as it is defined."""
    if not a or not b:
        return len(a) + len(b)
    if a[0] == b[0]:
        return distance(a[1:], b[1:])
    return 1 + min(distance(a[1:], b), distance(a, b[1:]), distance(a[1:], b[1:]))


@pytest.mark.parametrize(
    ("task", "language", "text", "references", "percent"),
    [
        ("asr", "en", "Mr. Smith, in colour", ("mister smith in color",), 0),
        ("asr", "zh", "你好世间。", ("你好,世界!",), 25),
        ("classification", "en", " Laughter.\n", ("laughter",), 100),
        ("classification", "en", "It is laughter", ("laughter",), 0),
        ("qa", "en", "It is laughter, I think.", ("a sneeze", "laughter"), 100),
        ("qa", "en", "It is slaughter.", ("laughter",), 0),
        ("qa", "zh", "答案是北京。", ("北京",), 100),
        ("qa", "ja", "それは 猫です", ("犬", "ねこ", "猫"), 100),
        ("qa", "zh", "有 15 个人。", ("5",), 0),
        ("qa", "zh", "一共15个", ("15",), 100),
        ("qa", "yue", "佢話okay啦", ("OK",), 0),
        ("classification", "zh", "笑 声", ("笑声。",), 100),
        ("translation", "de", "Die Katze ist hier", ("Die Katze ist hier",), 100),
        ("translation", "zh", "猫在这里。", ("狗在这里。", "猫在这里。"), 100),
    ],
)
def test_measures(
    task: Task, language: str, text: str, references: tuple[str, ...], percent: float
) -> None:
    assert score(task, [Answer(text, references)], language).percent == pytest.approx(percent)


async def test_another_model_is_asked_anew_and_a_source_is_corrected(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest(tmp_path, source="draft")
    await run(tmp_path, Listener({name: transcript(name) for name in SAID}), model="runs/a")
    other = Listener(dict.fromkeys(SAID, ""))
    await run(tmp_path, other, model="runs/b")
    assert len(other.asked) == 3
    manifest(tmp_path, source="final")
    again = Listener({})
    await run(tmp_path, again, model="runs/a")
    assert again.asked == []
    assert capsys.readouterr().out.splitlines()[-1].startswith("final: 3 items")
