"""AIR-Bench, as `assistant eval` and AIR-Bench's own scoring take it.

    python examples/air_bench.py manifest Foundation > Foundation/manifest.jsonl
    assistant eval Foundation/manifest.jsonl --task qa --model ...
    python examples/air_bench.py responses Foundation > Foundation_result_modelx.jsonl

The folder is `Foundation` or `Chat`, as the benchmark is published. The first command writes what
is to be asked, in the benchmark's own words; the last one puts the answers beside it, for
`score_foundation.py` and `score_chat.py`, which make the figures that are published.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CHOOSE = (
    "Choose the most suitable answer from options A, B, C, and D to respond the question in next "
    "line, you may only choose A or B or C or D."
)


def manifest(folder: Path) -> Iterator[dict[str, Any]]:
    """What is asked about each recording, and the right answer."""
    for item in entries(folder):
        task = f"{item['task_name']}_{item['dataset_name']}"
        path = Path(task, item["path"])
        if item["task_name"] == "Audio_Grounding":
            path = path.with_suffix(".flac")
        yield {
            "audio": str(path),
            "prompt": question(item),
            "reference": item["answer_gt"],
            "source": task,
        }


def responses(folder: Path) -> Iterator[dict[str, Any]]:
    """Each entry with the model's answer."""
    lines = (folder / "manifest.results.jsonl").read_text(encoding="utf-8").splitlines()
    answers = {result["line"]: result["answer"] for result in map(json.loads, lines)}
    for number, item in enumerate(entries(folder), start=1):
        if number in answers:
            yield {**item, "response": answers[number]}


def question(item: dict[str, Any]) -> str:
    if "choice_a" not in item:
        return str(item["question"])
    choices = "\n".join(f"{letter}. {item.get(f'choice_{letter.lower()}')}" for letter in "ABCD")
    return f"{CHOOSE}\n{item['question']}\n{choices}"


def entries(folder: Path) -> list[dict[str, Any]]:
    (meta,) = folder.glob("*_meta.json")
    items: list[dict[str, Any]] = json.loads(meta.read_text(encoding="utf-8"))
    return items


if __name__ == "__main__":
    convert = {"manifest": manifest, "responses": responses}[sys.argv[1]]
    for line in convert(Path(sys.argv[2])):
        print(json.dumps(line))
