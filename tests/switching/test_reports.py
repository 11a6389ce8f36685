"""`sllm switch` and `sllm shadow report`, as a person runs them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from provider.cli import main
from provider.shadow import comparison
from provider.shadow_cli import shadow
from provider.switch_cli import switch
from provider.transcript import Transcript
from tests.switching.parts import completion


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SLLM_STATE_FILE", str(tmp_path / "providers.json"))
    monkeypatch.setenv("LLM_SHADOW_PATH", str(tmp_path / "shadow.jsonl"))


def journal(tmp_path: Path, answers: list[tuple[str, str]]) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    asked = {"response_format": {"type": "json_schema", "json_schema": {"schema": schema}}}
    lines = []
    for served, other in answers:
        both = [
            Transcript.of_body(json.dumps(completion(text)).encode()) for text in (served, other)
        ]
        lines.append(json.dumps(comparison(asked, both[0], 0.5, both[1], 0.25, None)))
    (tmp_path / "shadow.jsonl").write_text("\n".join([*lines, '{"torn']), "utf-8")


def test_switch_tells_and_switches() -> None:
    run = CliRunner().invoke(switch, ["local", "--by", "kim"])
    assert run.exit_code == 0
    assert "llm        local    (switched; configured: openai)" in run.output
    assert "by kim" in run.output
    back = CliRunner().invoke(switch, ["default"])
    assert "llm        openai   (configured)" in back.output


def test_switch_to_a_hosted_side_without_a_key_warns(monkeypatch: pytest.MonkeyPatch) -> None:
    said = "OPENAI_API_KEY is not set here"
    assert said in CliRunner().invoke(switch, ["openai"]).output
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    assert said not in CliRunner().invoke(switch, ["openai"]).output


def test_switch_to_nobody_is_one_sentence() -> None:
    run = CliRunner().invoke(switch, ["grok"])
    assert run.exit_code == 2
    assert "known ones are litellm, local, openai" in run.output


def test_the_report_has_what_a_decision_needs(tmp_path: Path) -> None:
    journal(tmp_path, [('{"a":1}', '{"a":1}'), ('{"a":1}', '{"a":2}'), ('{"a":1}', '{"a":"x"}')])
    run = CliRunner().invoke(shadow, ["report", "--html", "report.html"])
    assert run.exit_code == 0, run.output
    assert "3 pairs" in run.output
    assert "33.3% of 3" in run.output
    assert "66.7%" in run.output  # two of three shadows fit the schema
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "<svg" in page
    assert "33% agreement" not in page
    figures = json.loads(CliRunner().invoke(shadow, ["report", "--json"]).output)
    assert figures["valid"] == {"served": 1.0, "shadow": pytest.approx(2 / 3)}


def test_no_journal_is_one_sentence() -> None:
    run = CliRunner().invoke(shadow, ["report"])
    assert run.exit_code == 2
    assert "There is no shadow journal" in run.output


def test_the_command_that_the_documents_name_exists(tmp_path: Path) -> None:
    journal(tmp_path, [('{"a":1}', '{"a":1}')])
    run = CliRunner().invoke(main, ["shadow", "report"])
    assert run.exit_code == 0, run.output
    assert "1 pairs" in run.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["report", "nowhere.jsonl"], "no shadow journal at nowhere.jsonl"),
        (["report", "."], "is a directory"),
        (["report", "--worst", "-1"], "not in the range"),
        (["report", "--html", "no/such/folder/x.html"], "cannot be written"),
    ],
)
def test_wrong_input_is_one_sentence(tmp_path: Path, arguments: list[str], said: str) -> None:
    journal(tmp_path, [('{"a":1}', '{"a":1}')])
    run = CliRunner().invoke(shadow, arguments)
    assert run.exit_code == 2
    assert said in run.output
    assert isinstance(run.exception, SystemExit)


@pytest.mark.parametrize("command", [[], ["report"]])
def test_wrong_settings_are_one_sentence(
    monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.setenv("LLM_SHADOW", "everyone")
    run = CliRunner().invoke(shadow if command else switch, command)
    assert run.exit_code == 2
    assert "LLM_SHADOW='everyone' cannot be used" in run.output
