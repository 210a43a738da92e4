"""Asks a model about every item of a manifest, several at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from assistant.engines.engine import Engine, Finished, ReplyOptions, Text
from assistant.errors import ConfigError, EngineError
from assistant.evaluation.examinee import Examinee
from assistant.evaluation.manifest import Item
from assistant.evaluation.results import Result, ResultsFile
from assistant.prompt import AudioPart, Message, Prompt, TextPart
from assistant.tasks import beside, task_group
from audio_io.errors import AudioError
from audio_io.files import read_audio

OPTIONS = ReplyOptions(max_output_tokens=256, temperature=0)
"""As in Qwen2-Audio's published evaluation: what the model holds for most likely."""


@dataclass(frozen=True, slots=True)
class Failure:
    """An item that has no answer; it is asked again when the run is taken up."""

    item: Item
    reason: str


async def evaluate(
    engine: Engine,
    examinee: Examinee,
    items: Sequence[Item],
    file: ResultsFile,
    *,
    at_once: int,
    on_done: Callable[[], None],
) -> tuple[list[Result], list[Failure]]:
    """Starts `engine`, asks what `file` doesn't answer yet, and closes it.

    `on_done` is called for each item. Returns the results of all items, and what failed. Raises
    EngineError where the engine can't be started, ConfigError where it takes no control tokens,
    OSError where results can't be written.
    """
    failures: list[Failure] = []
    try:
        await engine.start()
        if any(item.control_tokens for item in items) and "continuation" not in engine.info.modes:
            raise ConfigError(
                f"{engine.info.model} is no base model in process: its chat template alone sets "
                "control tokens. Leave --control-tokens out."
            )
        # Servers tell what they call it when they are asked first.
        examinee = replace(examinee, model=examinee.model or engine.info.model)
        results = {item.line: file.answer_to(item, examinee) for item in items}
        unanswered = [item for item in items if results[item.line] is None]
        for _ in range(len(items) - len(unanswered)):
            on_done()
        waiting = iter(unanswered)

        async def ask_in_turn() -> None:
            for item in waiting:
                try:
                    result = await _asked(engine, examinee, item)
                except (EngineError, AudioError, OSError) as error:
                    failures.append(Failure(item, str(error)))
                else:
                    file.add(result)
                    results[item.line] = result
                on_done()

        async with task_group() as group:
            for number in range(at_once):
                group.create_task(ask_in_turn(), name=f"evaluation {number}")
        return [result for result in results.values() if result], failures
    finally:
        await engine.close()


async def _asked(engine: Engine, examinee: Examinee, item: Item) -> Result:
    """Raises EngineError, AudioError, OSError."""
    audio = AudioPart.of(await beside(lambda: read_audio(item.audio)))
    text = TextPart(item.prompt, has_control_tokens=item.control_tokens)
    prompt = Prompt((Message("question", "user", (audio, text)),))
    texts: list[str] = []
    session = await engine.open_session()
    try:
        async for event in session.reply(prompt, OPTIONS):
            match event:
                case Text():
                    texts.append(event.text)
                case Finished():
                    return Result(
                        line=item.line,
                        audio=str(item.audio),
                        prompt=item.prompt,
                        references=item.references,
                        source=item.source,
                        control_tokens=item.control_tokens,
                        model=examinee.model,
                        settings=examinee.settings,
                        answer="".join(texts).strip(),
                        complete=event.reason == "stop",
                        input_tokens=event.usage.input.total,
                        output_tokens=event.usage.output_tokens,
                        total_ms=event.timings.total_ms,
                    )
        raise EngineError("The reply broke off.")
    finally:
        await session.close()
