"""Where the servers are; without them (an ordinary test run) there is nothing to collect."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

SERVERS: dict[str, str] = json.loads(os.environ.get("CLIENTS_SERVERS", "{}"))
collect_ignore_glob = [] if SERVERS else ["test_*.py"]

_counts: dict[str, list[bool]] = {}


@pytest.fixture(params=sorted(SERVERS))
def backend(request: pytest.FixtureRequest) -> str:
    """Who answers: `local` or `openai` (over the stand-in)."""
    return str(request.param)


@pytest.fixture
def base_url(backend: str) -> str:
    return SERVERS[backend]


@pytest.fixture(scope="session")
def key() -> str:
    return os.environ["CLIENTS_KEY"]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call" or report.failed:
        name = report.nodeid.split("::")[0].split("test_")[-1].removesuffix(".py")
        _counts.setdefault(name, []).append(report.passed)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if _counts:
        terminalreporter.section("clients: passed/run")
    for name, ran in _counts.items():
        terminalreporter.line(f"{name:<14}{sum(ran)}/{len(ran)}")
