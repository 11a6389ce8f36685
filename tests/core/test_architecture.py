"""The arrows of docs/architecture.md, read from the imports themselves."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PUBLIC = {
    "provider",
    "provider.base",
    "provider.errors",
    "provider.settings",
    "provider.factory",
    "provider.client",
    "provider.apps",
}


def sources(*rooms: str) -> Iterator[Path]:
    for room in rooms:
        place = ROOT / room
        yield from [place] if place.is_file() else sorted(place.rglob("*.py"))


def imported(path: Path, top_level_only: bool = False) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
            names |= {
                module for alias in node.names if is_module(module := f"{node.module}.{alias.name}")
            }
    return names


def is_module(name: str) -> bool:
    """Whether `from provider import locks` names a file of ours and not something in one."""
    place = ROOT.joinpath(*name.split("."))
    return place.with_suffix(".py").is_file() or (place / "__init__.py").is_file()


def uses(path: Path, package: str) -> bool:
    return any(name == package or name.startswith(f"{package}.") for name in imported(path))


def outside(package: str, *allowed: str) -> list[str]:
    """Files that import `package` and are not under one of the allowed places."""
    return [
        str(path.relative_to(ROOT))
        for path in sources("provider", "server", "migrations")
        if uses(path, package)
        and not any(str(path.relative_to(ROOT)).startswith(place) for place in allowed)
    ]


def test_torch_lives_under_the_engine_only() -> None:
    for package in ("torch", "transformers", "sentence_transformers", "peft"):
        assert outside(package, "provider/engine/") == []


def test_psycopg_lives_under_vectors_and_migrations_only() -> None:
    assert outside("psycopg", "provider/vectors/", "migrations/") == []


@pytest.mark.parametrize("library", ["httpx", "httpx2"])
def test_the_sdks_http_library_has_one_door(library: str) -> None:
    assert outside(library, "provider/sdk_http.py") == []


def test_the_door_is_used_by_the_client_and_the_hosted_side_only() -> None:
    users = {path.name for path in sources("provider", "server") if uses(path, "provider.sdk_http")}
    assert users <= {"client.py", "openai.py", "carriers.py", "blocking.py"}


def test_the_server_knows_only_public_names() -> None:
    for path in sources("server"):
        ours = {name for name in imported(path) if name.split(".")[0] == "provider"}
        assert ours <= PUBLIC, path


def test_protocol_and_base_are_leaves() -> None:
    for path in sources("provider/protocol", "provider/base.py", "provider/errors.py"):
        ours = {name for name in imported(path) if name.split(".")[0] == "provider"}
        for name in ours:
            assert name.startswith(
                ("provider.protocol", "provider.base", "provider.errors", "provider.engine.request")
            ), (path, name)
        assert not imported(path) & {"socket", "http", "urllib.request", "asyncio", "torch"}, path


MODEL_FILES = {
    f"provider.engine.{name}"
    for name in (
        "chat",
        "checkpoint",
        "convert",
        "convert_config",
        "device",
        "exaone",
        "layout",
        "lora",
        "lora_config",
        "model_card",
        "repository",
        "weights",
    )
}
"""What knows a model's files: fine-tuning writes those that the engine reads."""


DATA_RULES = {"provider.redact", "provider.record", "provider.prices"}
"""What a recording may hold and what a hosted answer costs: the same for made and kept data."""


FILES_BETWEEN_PROCESSES = {"provider.locks"}
"""What keeps two processes from writing one file, on every system."""


def test_finetune_and_provider_meet_at_a_directory() -> None:
    for path in sources("finetune"):
        ours = {name for name in imported(path) if name.split(".")[0] == "provider"}
        beyond = {name for name in ours if not name.startswith("provider.protocol.")}
        assert beyond <= PUBLIC | MODEL_FILES | DATA_RULES | FILES_BETWEEN_PROCESSES, (path, beyond)
    for path in sources("provider"):
        assert not uses(path, "finetune"), path


def test_revisions_import_none_of_our_packages() -> None:
    for path in (ROOT / "migrations").rglob("versions/*.py"):
        ours = {"provider", "server", "finetune"} & {n.split(".")[0] for n in imported(path)}
        assert not ours, path


def test_the_environment_has_one_reader() -> None:
    readers = []
    for path in sources("provider", "server"):
        text = path.read_text(encoding="utf-8")
        if "os.environ" in text or "os.getenv" in text:
            readers.append(str(path.relative_to(ROOT)))
    passes_on = {"provider/vectors/shared.py", "server/run_under.py"}  # hand it to a child process
    tells_a_library = {  # write variables, read none
        "provider/litellm.py",
        "provider/engine/shape_caches.py",
    }
    asks_a_compiler = {"provider/engine/native/build.py"}  # CC and XDG_CACHE_HOME, as tools do
    assert set(readers) <= {
        "provider/settings.py",
        *passes_on,
        *tells_a_library,
        *asks_a_compiler,
    }


def test_the_architecture_page_lists_each_file() -> None:
    spec = importlib.util.spec_from_file_location("files", ROOT / "docs" / "files.py")
    assert spec is not None
    assert spec.loader is not None
    files = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(files)
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert page.endswith(files.listing()), "run `make docs`"
