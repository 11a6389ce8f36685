"""Targets, clients and the matrix of the contract suite."""

from __future__ import annotations

import contextlib
import inspect
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.contract.both import settled
from tests.contract.targets import TARGETS, Target, here
from tests.contract.wiretap import Wiretap

FACES = ("sync", "async")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every test that asks for `client` runs for each target and face; the mark `targets` limits
    those for which its subject exists."""
    if "client" not in metafunc.fixturenames:
        return
    marker = metafunc.definition.get_closest_marker("targets")
    names = [name for name in here() if marker is None or name in marker.args]
    metafunc.parametrize("target", names, indirect=True, scope="session")
    metafunc.parametrize("face", FACES)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One event loop for the whole suite: a provider keeps its connections per loop."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents and inspect.iscoroutinefunction(getattr(item, "obj", None)):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)
        if here in item.path.parents and "[litellm" in item.name:
            # LiteLLM's and its pydantic models' own warnings, raised at their first use.
            item.add_marker(pytest.mark.filterwarnings("ignore"))


class Opened(dict[str, Target]):
    """Targets by name, opened when first asked for."""

    def __init__(self, stack: contextlib.AsyncExitStack) -> None:
        super().__init__()
        self._stack = stack

    def __missing__(self, name: str) -> Target:
        self[name] = target = self._stack.enter_context(TARGETS[name]())
        self._stack.push_async_callback(target.aclose)
        return target


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def opened() -> AsyncIterator[Opened]:
    """The targets that were opened in this run; closed at its end."""
    async with contextlib.AsyncExitStack() as stack:
        yield Opened(stack)


@pytest.fixture(scope="session")
def target(request: pytest.FixtureRequest, opened: Opened) -> Target:
    return opened[request.param]


@pytest.fixture
def wiretap() -> Wiretap:
    return Wiretap()


@pytest_asyncio.fixture(loop_scope="session")
async def client(target: Target, face: str, wiretap: Wiretap) -> AsyncIterator[Any]:
    """The SDK's client of this target; afterwards every byte it got is checked."""
    if target.standin is not None:
        target.standin.reset()
    made = target.client(face, max_retries=0, timeout=60)
    wiretap.attach(made)
    yield made
    await settled(made.close())
    wiretap.check()


Cells = dict[tuple[str, str], list[bool]]
_CELLS = pytest.StashKey[Cells]()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "targets(*names): run for these targets only")
    cells: Cells = defaultdict(list)
    config.stash[_CELLS] = cells


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: Any) -> Iterator[None]:
    outcome = yield
    report: pytest.TestReport = outcome.get_result()  # type: ignore[attr-defined]
    spec = getattr(item, "callspec", None)
    if spec is None or "target" not in spec.params:
        return
    column = f"{spec.params['target']} {spec.params['face']}"
    rows = [item.path.stem.removeprefix("test_")]
    if item.config.get_verbosity() > 0:
        rows = [f"{rows[0]}: {item.originalname}"]  # type: ignore[attr-defined]
    for row in rows:
        if not report.skipped and (report.when == "call" or report.failed):
            item.config.stash[_CELLS][row, column].append(report.passed)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """The matrix: passed/run of each subject for each target and face."""
    cells = config.stash[_CELLS]
    if not cells:
        return
    columns = [f"{name} {face}" for name in TARGETS for face in FACES]
    columns = [column for column in columns if any(column == c for _, c in cells)]
    rows = list(dict.fromkeys(row for row, _ in cells))
    width = max(map(len, rows)) + 2
    terminalreporter.section("contract: passed/run")
    terminalreporter.line(" " * width + "  ".join(columns))
    for row in rows:
        shown = []
        for column in columns:
            ran = cells.get((row, column), [])
            text = f"{sum(ran)}/{len(ran)}" if ran else "-"
            shown.append(text.rjust(len(column)))
        terminalreporter.line(row.ljust(width) + "  ".join(shown))
    passed = sum(sum(ran) for ran in cells.values())
    total = sum(map(len, cells.values()))
    terminalreporter.line(f"{passed} of {total} pass")
