"""Options and fixtures for all tests."""

from __future__ import annotations

import gc
import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

# The models of the tests are tiny: a second thread costs them more than it brings.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# How long an example takes tells what else the machine does.
hypothesis.settings.register_profile("tests", deadline=None)
hypothesis.settings.load_profile("tests")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--forbid-skips",
        action="store_true",
        help="A test that can't run is a failure: for CI, where everything is installed.",
    )


def pytest_collection_finish() -> None:
    # Else each full collection looks through all that was imported, which takes half a second.
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Generator[None, Any, Any]:
    return _forbid_skip((yield), collector.config)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    return _forbid_skip((yield), item.config)


def _forbid_skip(report: Any, config: pytest.Config) -> Any:
    if report.skipped and config.getoption("--forbid-skips") and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which is forbidden here: {report.longrepr[2]}"
    return report


@pytest.fixture(scope="session")
def tiny_qwen2_audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a Qwen2-Audio checkpoint with random weights."""
    # Here, since it takes seconds to import, which most tests needn't wait for.
    from tests.tiny_models import build_qwen2_audio

    return build_qwen2_audio(tmp_path_factory.mktemp("models") / "tiny-qwen2-audio")
