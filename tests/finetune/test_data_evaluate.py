"""`sllm finetune evaluate`: scores that are right, a verdict that waits for enough samples, and a
run that goes on after kill -9."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from finetune.asking.asker import Reply
from finetune.data.conversation import Conversation
from finetune.data.formats import conversation
from finetune.data.schemas import AnswerSchema
from finetune.evaluate.chrf import chrf
from finetune.evaluate.cli import evaluate
from finetune.evaluate.contestant import contestant
from finetune.evaluate.gate import decide
from finetune.evaluate.score import fields, score
from provider.errors import ConfigurationError
from provider.settings import Settings
from tests.standin import StandIn

SCHEMA = {
    "type": "object",
    "properties": {
        "rooms": {"type": "integer", "minimum": 0, "maximum": 3},
        "ok": {"type": "boolean"},
        "kind": {"enum": ["a", "b", "c"]},
    },
    "required": ["rooms", "ok", "kind"],
    "additionalProperties": False,
}
FORM = {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}}


@pytest.fixture(autouse=True)
def hosted(standin: StandIn, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> StandIn:
    monkeypatch.setenv("OPENAI_BASE_URL", standin.base_url)
    monkeypatch.setenv("OPENAI_API_KEY", standin.key)
    monkeypatch.chdir(tmp_path)
    return standin


def labelled(standin: StandIn, path: Path, count: int, **format_: Any) -> Path:
    """Conversations whose right answers are what gpt-4o-mini says."""
    client = openai.OpenAI(base_url=standin.base_url, api_key=standin.key)
    with path.open("w", encoding="utf-8") as file, client:
        for number in range(count):
            asked: Any = [{"role": "user", "content": f"집 {number}"}]
            options: Any = {"temperature": 0.0, "max_completion_tokens": 1024, **format_}
            answer = client.chat.completions.create(model="gpt-4o-mini", messages=asked, **options)
            said = {"role": "assistant", "content": answer.choices[0].message.content}
            record = {"messages": [*asked, said], "agent_type": "ab"[number % 2], **format_}
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
    standin.reset()
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(evaluate, [*map(str, arguments)], catch_exceptions=False)


def reply(text: str | None, **message: Any) -> Reply:
    said = {"role": "assistant", "content": text, **message}
    return Reply(said, "m", "stop", None, None, 0.1)


def expecting(answer: Any, **more: Any) -> Conversation:
    said = {"role": "assistant", "content": answer, **more}
    tools = [{"type": "function", "function": {"name": "area"}}] if more else None
    return conversation({"messages": [{"role": "user", "content": "q"}, said], "tools": tools})


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ('{"rooms": 2, "ok": true, "kind": "a"}', 1.0),
        ('{"kind":"a","ok":true,"rooms":2.0}', 1.0),
        ('{"rooms":2,"ok":false,"kind":"a"}', 2 / 3),
        ('{"rooms":9,"ok":true,"kind":"a"}', 0.0),
        ('{"rooms":2', 0.0),
        ("two rooms", 0.0),
    ],
)
def test_json_counts_by_its_right_fields_and_not_at_all_if_it_breaks_the_schema(
    said: str, expected: float
) -> None:
    right = expecting('{"rooms":2,"ok":true,"kind":"a"}')
    found = score(right, reply(said), AnswerSchema(SCHEMA, "s"))
    assert found.kind == "json"
    assert found.score == pytest.approx(expected)
    assert found.valid == (expected > 0)
    assert found.exact == (expected == 1)


def test_calls_count_by_name_and_arguments() -> None:
    def call(arguments: str, name: str = "area") -> list[dict[str, Any]]:
        function = {"name": name, "arguments": arguments}
        return [{"id": "1", "type": "function", "function": function}]

    right = expecting(None, tool_calls=call('{"room":"a","unit":"m2"}'))
    for given_calls, expected in (
        (call('{"unit":"m2","room":"a"}'), 1.0),
        (call('{"room":"b","unit":"m2"}'), 2 / 3),
        (call('{"room":'), 0.0),
        (None, 0.0),
    ):
        more = {} if given_calls is None else {"tool_calls": given_calls}
        assert score(right, reply("text", **more), None).score == pytest.approx(expected)


def test_text_counts_by_what_it_shares() -> None:
    right = expecting("거실은 남향이고 창이 두 개 있습니다.")
    assert score(right, reply("거실은  남향이고 창이 두 개 있습니다."), None).exact
    near = score(right, reply("거실은 남향이고 창이 세 개 있습니다."), None).score
    far = score(right, reply("I do not know."), None).score
    assert 0.5 < near < 1
    assert far < 0.05
    refused = Reply(None, "m", None, None, 0.0, 0.0, "no")
    assert score(right, refused, None).score == 0


@pytest.mark.parametrize(
    ("given_", "expected", "value"),
    [
        ("abc", "abc", 1.0),
        ("", "abc", 0.0),
        ("xyz", "abc", 0.0),
        ("abx", "abc", (2 / 3 + 1 / 2) / 3),  # as much precision as recall, so F is their mean
        ("ab", "abcd", 5 * (5 / 12) / (4 + 5 / 12)),  # recall (1/2 + 1/3) / 2, precision 1
        ("the cat", "the cat sat", 0.5577101053),
        ("거실은 남향이고 창이 세 개 있다", "거실은 남향이고 창이 두 개 있습니다", 0.5741991675),
    ],
)
def test_chrf_is_that_of_sacrebleu(given_: str, expected: str, value: float) -> None:
    """The last two were computed by sacreBLEU 2.6."""
    assert chrf(given_, expected) == pytest.approx(value, abs=1e-6)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


@given(VALUES, VALUES)
def test_the_share_of_right_fields_is_a_share(one: Any, other: Any) -> None:
    assert fields(one, one) == 1
    assert 0 <= fields(one, other) <= 1


@given(st.text(max_size=30), st.text(max_size=30))
def test_chrf_is_a_share(one: str, other: str) -> None:
    assert 0 <= chrf(one, other) <= 1
    assert chrf(one, one) == 1


def test_the_gate_waits_until_the_samples_decide() -> None:
    dice = np.random.default_rng(0)
    reference = dice.beta(5, 2, 400)
    better = decide(list(reference * 0.9), list(reference))
    worse = decide(list(reference * 0.5), list(reference))
    assert (better.verdict, worse.verdict) == ("pass", "fail")
    noisy = list(np.clip(reference * 0.85 + dice.normal(0, 0.25, 400), 0, 1))
    few = decide(noisy[:8], list(reference[:8]))
    assert few.verdict == "undecided"
    assert few.more is not None
    assert few.more > 5
    assert decide(noisy, list(reference)).verdict == "pass"
    assert "more samples are needed" in str(few)
    assert decide(list(reference * 0.7), list(reference)).ratio == pytest.approx(0.7)


def test_the_gate_says_what_cannot_be_decided_at_all() -> None:
    two = decide([1.0, 1.0], [1.0, 1.0])
    assert two.verdict == "undecided"
    assert "inf" not in str(two)
    nothing = decide([0.5] * 30, [0.0] * 30)
    assert (nothing.verdict, nothing.more) == ("undecided", None)
    assert str(nothing).startswith("UNDECIDED: the reference scored 0 on each of the 30 items")
    at_it = decide([0.7, 0.7] * 20, [1.0, 1.0] * 20)
    assert at_it.verdict in ("pass", "undecided")  # a ratio of exactly the gate, without spread


def test_the_interval_covers_what_it_promises_even_for_few_items() -> None:
    """Nominal 95 %; plain percentiles have 0.89 at 8 items."""
    dice = np.random.default_rng(7)
    covered = 0
    for trial in range(150):
        hard = dice.beta(4, 2, 8)
        theirs = (dice.random(8) < hard) * 0.6 + 0.4 * hard
        ours = (dice.random(8) < hard * 0.7) * 0.6 + 0.28 * hard
        found = decide(list(ours), list(theirs), seed=trial)
        covered += found.low <= 0.7 <= found.high
    assert covered >= 0.9 * 150


def test_who_is_meant(tmp_path: Path) -> None:
    settings = Settings(_env_file=None, llm_fallback="openai")
    local = contestant("base=local:default", settings, tmp_path / "none")
    assert (local.name, local.model, local.endpoint) == ("base", "default", "local")
    assert local.settings.llm_fallback == "none"
    there = contestant("qwen3:4b@http://127.0.0.1:9/v1", settings, tmp_path / "none")
    assert (there.model, there.endpoint) == ("qwen3:4b", "http://127.0.0.1:9/v1")
    assert there.settings.openai_base_url == "http://127.0.0.1:9/v1"
    key = there.settings.openai_api_key
    assert key is not None
    assert key.get_secret_value() == "unused"
    for wrong, said in (
        ("local:", "names no model"),
        ("=x", "names no model"),
        ("m@http:/x", "is no URL of an endpoint"),
    ):
        with pytest.raises(ConfigurationError, match=said):
            contestant(wrong, settings, tmp_path / "none")
    with pytest.raises(ConfigurationError, match="no such variable"):
        contestant("m@http://127.0.0.1:9/v1", settings, tmp_path, "NOT_THERE")


def test_a_candidate_that_is_the_reference_passes(tmp_path: Path, hosted: StandIn) -> None:
    path = labelled(hosted, tmp_path / "set.jsonl", 12, response_format=FORM)
    out = tmp_path / "out"
    same = f"same=gpt-4o-mini@{hosted.base_url}"
    os.environ["STANDIN_KEY"] = hosted.key
    try:
        said = run(path, "-c", same, "-r", "gpt-4o-mini", "--out", out, "--key-from", "STANDIN_KEY")
    finally:
        del os.environ["STANDIN_KEY"]
    assert said.exit_code == 0, said.output
    assert "same: PASS: 100.0% of the reference" in said.stdout
    report = json.loads((out / "report.json").read_text())
    assert [c["score"] for c in report["contestants"]] == [1.0, 1.0]
    assert report["gates"]["same"]["verdict"] == "pass"
    assert set(report["agents"]) == {"a", "b"}
    assert "PASS" in (out / "report.html").read_text()
    assert len((out / "answers.jsonl").read_text().splitlines()) == 12
    assert len(hosted.requests) == 24


def test_another_model_is_scored_field_by_field(tmp_path: Path, hosted: StandIn) -> None:
    path = labelled(hosted, tmp_path / "set.jsonl", 40, response_format=FORM)
    said = run(path, "-c", "gpt-4o", "-r", "gpt-4o-mini", "--out", tmp_path / "out", "--json")
    report = json.loads(said.stdout)
    assert said.exit_code == 1
    [other, reference] = report["contestants"]
    assert reference["score"] == 1
    assert 0.2 < other["score"] < 0.6  # three fields, right by chance alone
    assert other["valid"] == 1
    gate = report["gates"]["gpt-4o"]
    assert gate["verdict"] == "fail"
    assert gate["high"] < 0.7
    again = run(path, "-c", "gpt-4o", "-r", "gpt-4o-mini", "--out", tmp_path / "out", "--json")
    assert json.loads(again.stdout) == report
    assert len(hosted.requests) == 80


def test_few_samples_are_undecided(tmp_path: Path, hosted: StandIn) -> None:
    path = labelled(hosted, tmp_path / "set.jsonl", 4)
    said = run(path, "-c", "gpt-4o", "-r", "gpt-4o-mini", "--out", tmp_path / "out")
    assert said.exit_code == 3
    assert "gpt-4o: UNDECIDED" in said.stdout
    assert "about 16 more samples" in said.stdout


def test_a_schema_is_asked_for_and_held(tmp_path: Path, hosted: StandIn) -> None:
    path = tmp_path / "set.jsonl"
    record = {"instruction": "집", "output": {"rooms": 1, "ok": True, "kind": "a"}}
    path.write_text(json.dumps(record) + "\n" + json.dumps({**record, "output": "글"}) + "\n")
    (tmp_path / "s.json").write_text(json.dumps(SCHEMA))
    out = tmp_path / "out"
    said = run(path, "-c", "gpt-4o-mini", "--out", out, "--schema", tmp_path / "s.json")
    assert said.exit_code == 0
    asked = [request.json.get("response_format") for request in hosted.requests]
    assert [form["type"] for form in asked if form] == ["json_schema"]
    assert json.loads((out / "report.json").read_text())["contestants"][0]["valid"] == 1


def test_a_budget_or_a_dead_endpoint_leaves_it_unfinished(tmp_path: Path, hosted: StandIn) -> None:
    path = labelled(hosted, tmp_path / "set.jsonl", 6)
    asked = [path, "-c", "gpt-4o", "-r", "gpt-4o-mini", "--out", tmp_path / "out"]
    said = run(*asked, "--requests", 8)
    assert said.exit_code == 1
    assert "not finished: gpt-4o-mini: the budget is spent" in said.stdout
    assert len(hosted.requests) == 8
    assert "not finished" not in run(*asked, "--requests", 12).stdout
    wrong = run(path, "-c", f"m@{hosted.base_url}", "--out", tmp_path / "b")
    assert wrong.exit_code == 2
    assert "refuses the key" in wrong.stderr


def test_bad_data_are_said_before_anything_is_asked(tmp_path: Path, hosted: StandIn) -> None:
    path = tmp_path / "set.jsonl"
    path.write_text('{"messages": []}\n')
    said = run(path, "-c", "lonely-model", "--out", tmp_path / "out")
    assert said.exit_code == 2
    assert not any(b"lonely-model" in request.body for request in hosted.requests)
    assert "set.jsonl:1: messages: is empty" in said.stderr


def test_kill_9_and_on_again_asks_nothing_twice(tmp_path: Path, hosted: StandIn) -> None:
    path = labelled(hosted, tmp_path / "set.jsonl", 20)
    hosted.faults.add("delay", times=None, seconds=0.05)
    arguments = ["evaluate", path, "-c", "gpt-4o", "-r", "gpt-4o-mini", "--out", tmp_path / "out"]
    command = [sys.executable, "-m", "provider.cli", "finetune", *map(str, arguments)]
    root = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen([*command, "--concurrency", "2"], env=root)
    while len(hosted.requests) < random.Random(1).randint(8, 30) and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    hosted.faults.clear()
    said = run(*arguments[1:])
    assert "not finished" not in said.stdout
    bodies = [request.body for request in hosted.requests]
    assert len(set(bodies)) == 40
    assert len(bodies) <= 42


def test_the_local_side_is_a_candidate(tmp_path: Path, hosted: StandIn) -> None:
    from finetune.demo.corpus import heldout_plans
    from finetune.demo.schema import floorplan_schema

    path, schema = tmp_path / "plans.jsonl", tmp_path / "schema.json"
    schema.write_text(json.dumps(floorplan_schema()))
    with path.open("w", encoding="utf-8") as file:
        for plan in heldout_plans(2):
            said = {"role": "assistant", "content": plan.answer}
            file.write(json.dumps({"messages": [*plan.messages, said]}) + "\n")
    out = tmp_path / "out"
    done = run(path, "-c", "demo=local:default", "--out", out, "--schema", schema)
    assert done.exit_code == 0, done.output
    [demo] = json.loads((out / "report.json").read_text())["contestants"]
    assert demo["valid"] == 1
    assert demo["score"] > 0.7
    assert hosted.requests == []
