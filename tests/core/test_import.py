"""Importing the package costs little and loads nothing heavy."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec

import pytest

HEAVY = {
    "torch",
    "transformers",
    "litellm",
    "outlines",
    "sentence_transformers",
    "psycopg",
    "fastapi",
}


def modules_after(statement: str) -> set[str]:
    code = f"{statement}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in json.loads(done.stdout)}


@pytest.mark.parametrize(
    "statement",
    [
        "import provider",
        "from provider import OpenAI, AsyncOpenAI, Settings, get_llm, get_embedder, build",
        "from provider import OpenAI; OpenAI(api_key='sk-test')",
    ],
)
def test_importing_the_public_names_loads_nothing_heavy(statement: str) -> None:
    assert modules_after(statement) & HEAVY == set()


def test_import_provider_does_not_even_load_the_sdk() -> None:
    assert "openai" not in modules_after("import provider")


def test_an_unknown_name_is_an_attribute_error() -> None:
    import provider

    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = provider.Nothing


def test_every_public_name_exists() -> None:
    import provider

    for name in provider.__all__:
        if find_spec("psycopg") is None and name.endswith("VectorStore"):
            with pytest.raises(ImportError, match=r"pip install 'sllm-provider\[vectors\]'"):
                getattr(provider, name)
        else:
            assert getattr(provider, name) is not None
    assert set(provider.__all__) <= set(dir(provider))
