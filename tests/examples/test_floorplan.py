"""The customer's app, unchanged, on either provider, in each of the three ways; and back again."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import unified_diff
from random import Random
from types import ModuleType

import pytest

from provider.sdk_http import httpx
from tests.examples.processes import APP, SLLM, UVICORN, environment, running
from tests.standin import StandIn

LOCAL = {"LLM_PROVIDER": "local"}
HOSTED = {"LLM_PROVIDER": "openai"}
SAMPLE_SEED = 2027
SAMPLE = json.loads((APP / "sample.json").read_text(encoding="utf-8"))


def models() -> ModuleType:
    spec = importlib.util.spec_from_file_location("floorplan_models", APP / "models.py")
    if spec is None or spec.loader is None:
        raise AssertionError("examples/floorplan/models.py is there")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def key_of(standin: StandIn) -> dict[str, str]:
    """What an app on OpenAI has in its environment."""
    return {"OPENAI_BASE_URL": standin.base_url, "OPENAI_API_KEY": standin.key}


@contextmanager
def server(**values: str) -> Iterator[str]:
    with running([*SLLM, "serve", "--port", "0"], environment(**values)) as started:
        yield started.url() + "/v1"


def analysed(command: list[str], env: dict[str, str]) -> str:
    """Starts the app, has the sample analysed plainly and streamed; the checked JSON text."""
    with running(command, env) as app:
        url = app.url()
        plain = httpx.post(f"{url}/analyze", json=SAMPLE, timeout=240)
        assert plain.status_code == 200, plain.text
        streamed = httpx.post(f"{url}/analyze/stream", json=SAMPLE, timeout=240)
        assert streamed.status_code == 200, streamed.text
    analysis = models().FloorPlanAnalysis
    assert analysis.model_validate_json(streamed.text) == analysis.model_validate_json(plain.text)
    return plain.text


def test_the_in_process_app_differs_by_one_line() -> None:
    stock = (APP / "app.py").read_text(encoding="utf-8").splitlines()
    ours = (APP / "app_in_process.py").read_text(encoding="utf-8").splitlines()
    changed = [line for line in unified_diff(stock, ours, n=0) if line[:3] not in ("---", "+++")]
    assert changed[1:] == ["-from openai import OpenAI", "+from provider import OpenAI"]


def test_the_sample_is_a_plan_as_the_model_knows_them() -> None:
    from finetune.demo.plans import random_plan

    assert random_plan(Random(SAMPLE_SEED)) == SAMPLE, "write sample.json again"


def about_the_sample(text: str) -> None:
    """The local model has read the plan: its number, its rooms in their order."""
    analysis = json.loads(text)
    assert analysis["plan_id"] == SAMPLE["topology"]["plan_id"]
    names = [space["name"] for space in SAMPLE["topology"]["spaces"]]
    assert [room["name"] for room in analysis["rooms"]] == names


@pytest.mark.slow
def test_through_the_base_url_and_back(standin: StandIn) -> None:
    app = [*UVICORN, "app:app"]
    with server(**LOCAL) as url:
        local = environment(OPENAI_BASE_URL=url, OPENAI_API_KEY="unused")
        first = analysed(app, local)
        about_the_sample(first)
        assert not standin.requests
        analysed(app, environment(**key_of(standin)))
        assert standin.requests
        standin.reset()
        assert analysed(app, local) == first
        assert not standin.requests


@pytest.mark.slow
def test_under_exec_and_back(standin: StandIn) -> None:
    app = [*SLLM, "exec", "--", *UVICORN, "app:app"]
    local = environment(**key_of(standin), **LOCAL)
    first = analysed(app, local)
    about_the_sample(first)
    assert not standin.requests
    analysed(app, environment(**key_of(standin), **HOSTED))
    assert standin.requests
    standin.reset()
    assert analysed(app, local) == first
    assert not standin.requests


@pytest.mark.slow
def test_by_the_one_line_import_change_and_back(standin: StandIn) -> None:
    app = [*UVICORN, "app_in_process:app"]
    local = environment(**key_of(standin), **LOCAL)
    first = analysed(app, local)
    about_the_sample(first)
    assert not standin.requests
    analysed(app, environment(**key_of(standin), **HOSTED))
    assert standin.requests
    standin.reset()
    assert analysed(app, local) == first
    assert not standin.requests


def test_the_server_forwards_to_openai_what_the_app_would_have_sent(standin: StandIn) -> None:
    app = [*UVICORN, "app:app"]
    analysed(app, environment(**key_of(standin)))
    direct = standin.last
    standin.reset()
    with server(**HOSTED, **key_of(standin)) as url:
        analysed(app, environment(OPENAI_BASE_URL=url, OPENAI_API_KEY="unused"))
    assert standin.last.body == direct.body


def test_hosted_without_anything_of_ours_in_between(standin: StandIn) -> None:
    hosted = environment(**key_of(standin), **HOSTED)
    analysed([*SLLM, "exec", "--", *UVICORN, "app:app"], hosted)
    analysed([*UVICORN, "app_in_process:app"], hosted)
    agents = {recorded.headers["user-agent"] for recorded in standin.requests}
    assert len(agents) == 1
    assert agents.pop().startswith("OpenAI/Python")
