"""`expand`: new examples from seeds, within a budget, resumed after kill -9, never from a model
whose licence forbids it."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from finetune.asking import patience
from finetune.asking.budget import Budget
from finetune.asking.journal import Journal
from finetune.asking.price import Price
from finetune.data.cli import data
from finetune.data.duplicates import Seen, normal
from finetune.data.read import read_conversations
from finetune.data.variation import answer_request, questions_of, questions_request
from provider.errors import ConfigurationError
from tests.standin import StandIn

SCHEMA = {
    "type": "object",
    "properties": {"rooms": {"type": "integer"}, "ok": {"type": "boolean"}},
    "required": ["rooms", "ok"],
    "additionalProperties": False,
}
FORM = {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}}


@pytest.fixture(autouse=True)
def hosted(standin: StandIn, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> StandIn:
    monkeypatch.setenv("OPENAI_BASE_URL", standin.base_url)
    monkeypatch.setenv("OPENAI_API_KEY", standin.key)
    monkeypatch.chdir(tmp_path)
    return standin


def seeds(folder: Path, count: int = 3, **more: Any) -> Path:
    path = folder / "seeds.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            said = [
                {"role": "system", "content": "평면도를 분석한다."},
                {"role": "user", "content": f"방이 {number}개인 집을 분석하라."},
                {"role": "assistant", "content": json.dumps({"rooms": number, "ok": True})},
            ]
            file.write(json.dumps({"messages": said, "agent_type": "a", **more}) + "\n")
    return path


def run(path: Path, out: Path, *more: object) -> Result:
    arguments = ["expand", str(path), "--out", str(out), *map(str, more)]
    return CliRunner().invoke(data, arguments, catch_exceptions=False)


def test_new_questions_are_answered_as_the_seed_was(tmp_path: Path, hosted: StandIn) -> None:
    out = tmp_path / "new.jsonl"
    said = run(
        seeds(tmp_path, response_format=FORM), out, "--per-seed", 2, "--near", 0, "--price", "1:2"
    )
    assert said.exit_code == 0, said.stdout
    made = list(read_conversations(out))
    assert len(made) == len({c.messages[1]["content"] for c in made})
    for conversation in made:
        assert conversation.messages[0]["content"] == "평면도를 분석한다."
        assert set(json.loads(conversation.answer["content"])) == {"rooms", "ok"}
        assert conversation.response_format == FORM
        assert conversation.agent_type == "a"
        assert conversation.model == "gpt-4o-mini-2024-07-18"
    asked = [request.json for request in hosted.requests]
    answers = [body for body in asked if len(body["messages"]) == 4]
    assert len(answers) == len(made) >= 2
    assert all(body["response_format"] == FORM for body in answers)
    assert f"{len(asked)} requests now" in said.stdout
    assert "$0.0" in said.stdout
    records = [json.loads(line) for line in out.read_text().splitlines()]
    assert {r["expanded_from"].rpartition(":")[2] for r in records} <= {"1", "2", "3"}


def test_a_second_run_asks_nothing_and_writes_the_same(tmp_path: Path, hosted: StandIn) -> None:
    out, path = tmp_path / "new.jsonl", seeds(tmp_path)
    run(path, out, "--near", 0)
    written = out.read_bytes()
    asked = len(hosted.requests)
    said = run(path, out, "--near", 0)
    assert (said.exit_code, len(hosted.requests), out.read_bytes()) == (0, asked, written)
    assert "0 requests now" in said.stdout


def test_the_budget_in_requests_is_kept_over_all_runs(tmp_path: Path, hosted: StandIn) -> None:
    out, path = tmp_path / "new.jsonl", seeds(tmp_path, 4)
    first = run(path, out, "--requests", 3, "--near", 0)
    assert (first.exit_code, len(hosted.requests)) == (1, 3)
    assert "not finished: the budget is spent" in first.stdout
    again = run(path, out, "--requests", 3, "--near", 0)
    assert (again.exit_code, len(hosted.requests)) == (1, 3)
    assert run(path, out, "--requests", 100, "--near", 0).exit_code == 0
    assert len({request.body for request in hosted.requests}) == len(hosted.requests)


def test_the_budget_in_dollars_is_never_passed(tmp_path: Path, hosted: StandIn) -> None:
    out, path = tmp_path / "new.jsonl", seeds(tmp_path, 6)
    prices = ["--price", "100:200"]
    said = run(path, out, "--usd", 0.5, "--near", 0, "--concurrency", 8, *prices)
    assert said.exit_code == 1
    spent = [json.loads(line) for line in Path(f"{out}.journal").read_text().splitlines()]
    usages = [json.loads(r.answer)["usage"] for r in hosted.requests]
    real = sum(u["prompt_tokens"] * 1e-4 + u["completion_tokens"] * 2e-4 for u in usages)
    told = sum(line["reply"]["usd"] for line in spent if "reply" in line)
    assert 0 < real < 0.5
    assert told == pytest.approx(real)
    assert f"${real:.4f}" in said.stdout
    unknown = run(path, tmp_path / "b.jsonl", "--usd", 1, "--model", "mystery-1")
    assert unknown.exit_code == 2
    assert "price of mystery-1 is not known" in unknown.stderr
    wrong = run(path, tmp_path / "b.jsonl", "--price", "a:b")
    assert "--price a:b: expected US dollars" in wrong.stderr


@pytest.mark.parametrize("model", ["claude-sonnet-5", "EXAONE-3.5-7.8B-Instruct"])
def test_a_model_that_may_not_be_learnt_from_is_not_asked(
    tmp_path: Path, hosted: StandIn, model: str
) -> None:
    said = run(seeds(tmp_path), tmp_path / "new.jsonl", "--model", model)
    assert said.exit_code == 2
    assert "may not become training data" in said.stderr
    assert hosted.requests == []


def test_a_local_model_that_may_not_be_learnt_from_is_not_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLM_PROVIDER", "local")
    monkeypatch.setenv("LOCAL_LLM_MODEL_PATH", "/models/EXAONE-3.5-2.4B-Instruct")
    said = run(seeds(tmp_path), tmp_path / "new.jsonl")
    assert said.exit_code == 2
    assert "EXAONE AI Model License" in said.stderr


def test_a_wrong_key_and_an_unknown_model_end_it_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = seeds(tmp_path)
    unknown = run(path, tmp_path / "a.jsonl", "--model", "gpt-0")
    assert unknown.exit_code == 2
    assert "gpt-0" in unknown.stderr
    monkeypatch.setenv("OPENAI_API_KEY", "sk-wrong")
    wrong = run(path, tmp_path / "b.jsonl")
    assert wrong.exit_code == 2
    assert "refuses the key" in wrong.stderr
    monkeypatch.delenv("OPENAI_API_KEY")
    assert "OPENAI_API_KEY is not set" in run(path, tmp_path / "c.jsonl").stderr


@pytest.mark.parametrize(
    "fault", ["insufficient_quota", "invalid_json", "empty_object", "bad_utf8"]
)
def test_an_endpoint_that_fails_is_left_and_asked_again_later(
    tmp_path: Path, hosted: StandIn, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "_FIRST", 0.001)
    out, path = tmp_path / "new.jsonl", seeds(tmp_path, 8)
    hosted.faults.add(fault, times=31)
    said = run(path, out, "--near", 0, "--concurrency", 1)
    assert said.exit_code == 1
    assert "not finished: the " in said.stdout
    hosted.reset()
    assert run(path, out, "--near", 0).exit_code == 0


def test_a_busy_endpoint_is_waited_for(tmp_path: Path, hosted: StandIn) -> None:
    hosted.faults.add("rate_limit", retry_after=0)
    hosted.faults.add("reset_before")
    assert run(seeds(tmp_path, 2), tmp_path / "new.jsonl", "--near", 0).exit_code == 0


def test_what_is_cut_off_or_breaks_its_schema_is_dropped(tmp_path: Path) -> None:
    path = seeds(tmp_path, response_format=FORM)
    cut = run(path, tmp_path / "cut.jsonl", "--max-tokens", 2, "--near", 0)
    assert (cut.exit_code, (tmp_path / "cut.jsonl").read_bytes()) == (0, b"")
    assert "no whole answer (length)" in cut.stdout


def test_a_file_that_is_not_its_own_is_not_touched(tmp_path: Path, hosted: StandIn) -> None:
    path = seeds(tmp_path)
    before = path.read_bytes()
    assert "exists; name another file" in run(path, path).stderr
    (tmp_path / "x.jsonl.journal").write_text('{"messages": []}\n')
    assert "is no line of such a journal" in run(path, tmp_path / "x.jsonl").stderr
    assert (path.read_bytes(), hosted.requests) == (before, [])


def command(path: Path, out: Path, *more: object) -> list[str]:
    arguments = ["finetune", "data", "expand", path, "--out", out, "--near", 0, *more]
    return [sys.executable, "-m", "provider.cli", *map(str, arguments)]


def test_kill_9_and_on_again_pays_for_nothing_twice(tmp_path: Path, hosted: StandIn) -> None:
    whole, out, path = tmp_path / "whole.jsonl", tmp_path / "new.jsonl", seeds(tmp_path, 8)
    run(path, whole, "--near", 0)
    hosted.reset()
    hosted.faults.add("delay", times=None, seconds=0.05)
    root = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    for goal in (5, 12):
        process = subprocess.Popen(command(path, out, "--concurrency", 2), env=root)
        while len(hosted.requests) < goal and process.poll() is None:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    hosted.faults.clear()
    assert run(path, out, "--near", 0).exit_code == 0
    assert out.read_bytes() == whole.read_bytes()
    bodies = [request.body for request in hosted.requests]
    assert len(bodies) - len(set(bodies)) <= 4  # what was under way when it was killed, twice two


def test_a_full_disk_keeps_what_was_answered(tmp_path: Path, hosted: StandIn) -> None:
    out, path = tmp_path / "new.jsonl", seeds(tmp_path, 8)
    root = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        command(path, out, "--concurrency", 1),
        env=root,
        capture_output=True,
        text=True,
        preexec_fn=_little_room,
        check=False,
    )
    assert done.returncode == 2
    assert "answers are kept. Make room and run the same command again" in done.stderr
    assert "Traceback" not in done.stderr
    asked = len(hosted.requests)
    assert run(path, out, "--near", 0).exit_code == 0
    bodies = [request.body for request in hosted.requests]
    assert asked > 2
    assert len(bodies) - len(set(bodies)) <= 1


def _little_room() -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))


def test_a_torn_line_is_asked_again_and_two_runs_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "a.journal"
    journal = Journal(path)
    journal.ask("one", 0.5)
    journal.reply("one", {"usd": 0.2})
    journal.ask("two", 0.5)
    with pytest.raises(ConfigurationError, match="in use by another run"):
        Journal(path)
    journal.close()
    with path.open("ab") as file:
        file.write(b'{"key":"two","reply":{"us')
    again = Journal(path)
    assert (again.requests, again.usd, set(again.replies)) == (2, 0.7, {"one"})
    again.ask("two", 0.5)
    again.reply("two", {"usd": 0.1})
    again.close()
    last = Journal(path)
    assert last.requests == 3
    assert last.usd == pytest.approx(0.8)
    last.close()


def test_a_budget_counts_the_most_until_it_is_told() -> None:
    budget = Budget(usd=1.0)
    assert budget.take(0.6)
    assert not budget.take(0.6)
    budget.settle(0.6, 0.1)
    assert budget.take(0.6)
    assert Price(1, 2).most({"model": "m", "max_tokens": 1000}) > 0.002
    assert Price().most({"model": "mystery"}) == 0


def test_questions_are_read_or_there_are_none(tmp_path: Path) -> None:
    assert questions_of('{"messages":[" a ",3,"","b"]}') == ["a", "b"]
    assert questions_of("no") == questions_of('{"messages":3}') == questions_of("[]") == []
    [seed] = read_conversations(seeds(tmp_path, 1))
    body = questions_request(seed, "m", 3, 0)
    assert "방이 0개인 집" in body["messages"][1]["content"]
    assert [m["role"] for m in answer_request(seed, "q", "m", 9, None)["messages"]] == [
        *("system", "user", "assistant", "user"),
    ]


def test_texts_that_resemble_one_before_are_not_new() -> None:
    seen = Seen(0.8)
    text = normal("거실과 주방이 넓은 집의 평면도를 분석하고 결과를 알려 주세요")
    assert seen.add(text)
    assert not seen.add(text)
    assert not seen.add(text + "!")
    assert seen.add(normal("창문이 없는 방은 몇 개인지 세어 주세요"))
    assert Seen(0).add(text + "!")
