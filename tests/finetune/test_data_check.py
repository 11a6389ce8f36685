"""`sllm finetune data check`: what it finds, what it mends without a guess, and what it leaves."""

from __future__ import annotations

import json
import random
import resource
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from finetune.data.check import Checked, Limits, check
from finetune.data.cli import data
from finetune.data.duplicates import near_duplicates, normal, resemblance
from finetune.data.language import language
from finetune.data.member_order import disorder, in_order
from finetune.data.read import read_conversations
from finetune.data.schemas import AnswerSchema, load_schemas
from provider.errors import ConfigurationError

SCHEMA = {
    "type": "object",
    "properties": {"rooms": {"type": "integer"}, "ok": {"type": "boolean"}},
    "required": ["rooms", "ok"],
    "additionalProperties": False,
}


class Rooms(BaseModel):
    rooms: int
    ok: bool


def pair(asked: str, answered: Any, **more: Any) -> dict[str, Any]:
    text = answered if isinstance(answered, str) else json.dumps(answered)
    said = [{"role": "user", "content": asked}, {"role": "assistant", "content": text}]
    return {"messages": said, **more}


def written(path: Path, *records: dict[str, Any]) -> Path:
    lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    path.write_text("".join(lines), encoding="utf-8")
    return path


def checked(tmp_path: Path, *records: dict[str, Any], **limits: Any) -> Checked:
    return check([written(tmp_path / "data.jsonl", *records)], Limits(**limits))


def kinds(found: Checked) -> list[tuple[int, str, str]]:
    return [(p.line, p.kind, p.severity) for p in found.problems if p.kind != "length"]


def sentence(seed: int, words: int = 60) -> str:
    draw = random.Random(seed)
    return " ".join(
        "".join(draw.choices("가나다라마바사아자차카타파하", k=3)) for _ in range(words)
    )


def run(*arguments: object) -> Result:
    return CliRunner().invoke(data, ["check", *map(str, arguments)], catch_exceptions=False)


def test_json_answers_are_held_to_the_schema_with_path_and_reason(tmp_path: Path) -> None:
    found = checked(
        tmp_path,
        pair("a", {"rooms": 3, "ok": True}),
        pair("b", {"rooms": "3", "ok": True}),
        pair("c", "three rooms"),
        pair("d", {"ok": True, "rooms": 3}),
        schemas={None: AnswerSchema(SCHEMA, "rooms")},
    )
    assert kinds(found) == [(2, "answer", "error"), (3, "answer", "error"), (4, "order", "warning")]
    wrong = next(p for p in found.problems if p.line == 2 and p.kind == "answer")
    assert wrong.field == "messages[1].content"
    assert wrong.reason == "rooms: '3' is not of type 'integer'"


def test_each_agent_may_have_its_own_schema_and_the_request_its_format(tmp_path: Path) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "r", "schema": SCHEMA}}
    found = checked(
        tmp_path,
        pair("a", {"rooms": 1}, agent_type="counter"),
        pair("b", {"rooms": 1}, agent_type="talker"),
        pair("c", {"rooms": 1}, response_format=form),
        pair(
            "d", {}, response_format={"type": "json_schema", "json_schema": {"schema": {"type": 3}}}
        ),
        schemas={"counter": AnswerSchema(SCHEMA, "rooms")},
        near=0,
    )
    assert [line for line, kind, _ in kinds(found) if kind == "answer"] == [1, 3, 4]


@pytest.mark.parametrize(
    ("name", "arguments", "field", "reason"),
    [
        ("area", '{"room":"a"}', None, ""),
        ("area", '{"room":1}', "messages[1].tool_calls[0].function.arguments", "not of type"),
        ("area", "{", "messages[1].tool_calls[0].function.arguments", "no JSON"),
        ("size", "{}", "messages[1].tool_calls[0].function.name", "not among the tools (area)"),
    ],
)
def test_calls_are_held_to_their_tools(
    tmp_path: Path, name: str, arguments: str, field: str | None, reason: str
) -> None:
    parameters = {"type": "object", "properties": {"room": {"type": "string"}}}
    call = {"id": "1", "type": "function", "function": {"name": name, "arguments": arguments}}
    said = [{"role": "user", "content": "a"}, {"role": "assistant", "tool_calls": [call]}]
    tools = [{"type": "function", "function": {"name": "area", "parameters": parameters}}]
    found = checked(tmp_path, {"messages": said, "tools": tools})
    wrong = [p for p in found.problems if p.severity == "error"]
    assert [p.field for p in wrong] == ([] if field is None else [field])
    assert all(reason in p.reason for p in wrong)


def test_what_must_not_be_learnt_from_is_an_error(tmp_path: Path) -> None:
    found = checked(
        tmp_path, pair("a", "b", model="claude-sonnet-5"), pair("c", "d", model="gpt-4o")
    )
    assert kinds(found) == [(1, "licence", "error")]


def test_personal_data_is_named_and_not_repeated(tmp_path: Path) -> None:
    found = checked(
        tmp_path, pair("메일은 kim@example.com, 전화는 010-1234-5678", "네, 알겠습니다")
    )
    [problem] = [p for p in found.problems if p.kind == "personal data"]
    assert "an e-mail address and a phone number" in problem.reason
    assert "kim" not in str(problem)


def test_repeated_contradicting_and_nearly_repeated_lines(tmp_path: Path) -> None:
    text = sentence(1)
    found = checked(
        tmp_path,
        pair("질문 하나", text),
        pair("질문 하나", text),
        pair("질문 하나", sentence(2)),
        pair("질문 하나!", f"{text} 끝"),
        pair("다른 질문", sentence(3)),
    )
    assert kinds(found) == [
        (2, "duplicate", "warning"),
        (3, "contradiction", "warning"),
        (4, "near duplicate", "warning"),
    ]


def test_validation_that_is_trained_on(tmp_path: Path) -> None:
    training = written(tmp_path / "t.jsonl", *(pair(f"질문 {n}", sentence(n)) for n in range(5)))
    validation = written(
        tmp_path / "v.jsonl",
        pair("질문 1", sentence(1)),
        pair("질문 2", sentence(22)),
        pair("질문 3?", sentence(3)),
        pair("질문 4", sentence(44, 61), tools=None),
        pair("새 질문", sentence(99)),
    )
    found = check([training], Limits(), [validation])
    leaks = {(p.line, p.severity) for p in found.problems if p.kind == "leak"}
    assert leaks == {(1, "error"), (2, "error"), (3, "warning"), (4, "error")}


def test_rare_agents_lengths_and_languages_are_pointed_out(tmp_path: Path) -> None:
    many = (pair(f"질문 {n}", sentence(n), agent_type="common") for n in range(12))
    found = checked(
        tmp_path,
        *many,
        pair("짧다", "네", agent_type="rare"),
        pair("이 집에는 방이 몇 개 있습니까?", "There are three rooms in this house."),
    )
    assert ("agent_type", "1 of 14 conversations have none") in {
        (p.field, p.reason) for p in found.problems
    }
    assert any("'rare' has 1 conversations" in p.reason for p in found.problems)
    assert [p.line for p in found.problems if p.kind == "length"] == [13, 14]
    assert [p.reason for p in found.problems if p.kind == "language"] == [
        "is asked in ko and answered in en"
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("거실의 면적은 20 m² 입니다", "ko"),
        ("LLM provider layer 를 switch 하세요", "ko"),
        ("このモデルは何ですか", "ja"),
        ("東京都の面積", "ja"),
        ("平面图分析", "zh"),
        ("How many rooms?", "en"),
        ("3.14 !?", "other"),
        ('{"summary":"방이 세 개 있습니다","verdict":"적합"}', "ko"),
    ],
)
def test_languages_by_script(text: str, expected: str) -> None:
    assert language(text) == expected


def test_one_hundred_planted_near_duplicates_are_found_and_nothing_else() -> None:
    originals = [normal(sentence(n, 120)) for n in range(1000)]
    copies = [f"{text[:-40]} 그리고 끝" for text in originals[:100]]
    pairs = near_duplicates([*originals, *copies], 0.85)
    assert [(p.first, p.later) for p in pairs] == [(n, 1000 + n) for n in range(100)]
    assert all(0.85 <= p.resemblance < 1 for p in pairs)


@given(st.text(max_size=60), st.text(max_size=60))
def test_resemblance_is_the_share_of_common_five_grams(one: str, other: str) -> None:
    one, other = (normal(text.encode("utf-8", "replace").decode()) for text in (one, other))
    grams = [{t[n : n + 5] for n in range(max(1, len(t) - 4))} for t in (one, other)]
    expected = len(grams[0] & grams[1]) / len(grams[0] | grams[1])
    assert resemblance(one, other) == pytest.approx(expected)


VALUES = st.recursive(
    st.integers() | st.none(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
    ),
    max_leaves=10,
)
NODE = {
    "anyOf": [
        {"type": "null"},
        {"properties": {n: {"$ref": "#/$defs/n"} for n in "bca"}, "items": {"$ref": "#/$defs/n"}},
    ]
}


@given(VALUES)
def test_what_is_put_in_order_is_the_same_value_and_in_order(value: Any) -> None:
    root = {"$ref": "#/$defs/n", "$defs": {"n": NODE}}
    ordered = in_order(value, root, root)
    assert ordered == value
    assert disorder(ordered, root, root) is None
    if json.dumps(ordered) != json.dumps(value):
        assert disorder(value, root, root) is not None


def test_fix_mends_without_a_guess_and_says_what_it_did(tmp_path: Path) -> None:
    path, out = tmp_path / "data.jsonl", tmp_path / "fixed.jsonl"
    schema = tmp_path / "schema.json"
    schema.write_text(json.dumps(SCHEMA))
    good = pair("방 수?", {"rooms": 3, "ok": True})
    lines = [
        {"instruction": " 방 수?  ", "output": {"ok": True, "rooms": 3}, "id": 7},
        {"conversations": good["messages"]},
        pair(unicodedata.normalize("NFD", "창문 수?"), {"rooms": 1, "ok": False}),
        pair("c", {"rooms": "1"}),
        {"messages": []},
    ]
    raw = "\r\n".join(json.dumps(line) for line in lines) + "\r\n\r\n{"
    path.write_bytes(b"\xef\xbb\xbf" + raw.encode())
    result = run(path, "--schema", schema, "--fix", out)
    assert result.exit_code == 1
    first, second = read_conversations(out)
    assert first.answer["content"] == '{"rooms":3,"ok":true}'
    assert second.messages[0]["content"] == "창문 수?"
    assert json.loads(out.read_text().split("\n")[0])["id"] == 7
    for said in (
        "2 lines written",
        "answers put in the schema's order: 1",
        "byte order marks removed: 1",
        "exact duplicates dropped: 1",
        "messages composed (NFC): 1",
        "messages trimmed: 1",
        "other formats written as messages: 1",
        f"{path}:4, {path}:5, {path}:7",
    ):
        assert said in result.stderr
    again = tmp_path / "again.jsonl"
    assert run(out, "--schema", schema, "--fix", again).exit_code == 0
    assert again.read_bytes() == out.read_bytes()


def test_fix_overwrites_nothing_and_redacts_only_when_asked(tmp_path: Path) -> None:
    path = written(tmp_path / "data.jsonl", pair("kim@example.com", "b"))
    refused = run(path, "--fix", path)
    assert refused.exit_code == 2
    assert "exists; name another file" in refused.stderr
    kept, clean = tmp_path / "kept.jsonl", tmp_path / "clean.jsonl.gz"
    run(path, "--fix", kept)
    run(path, "--fix", clean, "--redact")
    assert next(read_conversations(kept)).messages[0]["content"] == "kim@example.com"
    assert next(read_conversations(clean)).messages[0]["content"] == "[EMAIL]"


@pytest.mark.parametrize("depth", [300, 900, 970, 990, 100_000])
def test_however_deep_an_answer_is_there_is_no_stack_trace(tmp_path: Path, depth: int) -> None:
    nest = "[" * depth + "]" * depth
    path = tmp_path / "data.jsonl"
    raw = '{"instruction": "a", "output": ' + nest + "}\n"
    path.write_text(raw + json.dumps(pair("b", nest)) + "\n")
    schema = tmp_path / "schema.json"
    schema.write_text('{"items": {"$ref": "#"}}')
    result = run(path, "--schema", schema, "--fix", tmp_path / "fixed.jsonl")
    assert result.exit_code in (0, 1)
    assert result.exit_code == 0 or "too deep" in result.stdout or "no JSON" in result.stdout


def test_a_full_disk_leaves_nothing_of_the_output(tmp_path: Path) -> None:
    rows = (pair(f"질문 {n}", sentence(n)) for n in range(40))
    path, out = written(tmp_path / "data.jsonl", *rows), tmp_path / "out.jsonl"
    for name in ("out.jsonl", "out.jsonl.gz"):
        out = tmp_path / name
        command = ["finetune", "data", "check", str(path), "--near", "0", "--fix", str(out)]
        done = subprocess.run(
            [sys.executable, "-m", "provider.cli", *command],
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000)),
            check=False,
        )
        assert done.returncode == 2
        assert f"{out} cannot be written (File too large); nothing of it is left" in done.stderr
        assert [entry.name for entry in tmp_path.iterdir()] == ["data.jsonl"]


def test_the_report_has_every_finding_and_a_picture(tmp_path: Path) -> None:
    rows = (pair(f"질문 {n} <script>", sentence(n), agent_type="상담원") for n in range(9))
    path = written(tmp_path / "data.jsonl", *rows, {"messages": 3})
    result = run(path, "--report", tmp_path / "report", "--json")
    assert result.exit_code == 1
    figures = json.loads(result.stdout)
    assert (figures["conversations"], figures["errors"]) == (9, 1)
    page = (tmp_path / "report" / "report.html").read_text()
    assert "NOT READY: 1 errors" in page
    assert "<script" not in page
    assert "상담원" in page
    assert (tmp_path / "report" / "report.png").read_bytes()[:4] == b"\x89PNG"
    findings = (tmp_path / "report" / "problems.jsonl").read_text().splitlines()
    assert len(findings) == len(figures["findings"])


def test_of_nothing_there_is_a_report_too(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").touch()
    result = run(tmp_path / "empty.jsonl", "--report", tmp_path / "report")
    assert result.exit_code == 1
    assert "the file is empty" in result.stdout


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("none.json", "cannot be read"),
        ("no:Model", "cannot be imported"),
        ("json:loads", "neither a Pydantic model nor"),
        ("none", "no such file"),
    ],
)
def test_a_schema_that_cannot_be_used_is_one_sentence(
    tmp_path: Path, given: str, said: str
) -> None:
    path = written(tmp_path / "data.jsonl", pair("a", "b"))
    result = run(path, "--schema", given)
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_model_and_a_response_format_are_schemas_too(tmp_path: Path) -> None:
    form = tmp_path / "form.json"
    form.write_text(json.dumps({"type": "json_schema", "json_schema": {"schema": SCHEMA}}))
    loaded = load_schemas([f"{__name__}:Rooms", f"agent={form}"])
    for schema in loaded.values():
        assert schema.problem({"rooms": 1}) is not None
        assert schema.problem({"rooms": 1, "ok": True}) is None
    with pytest.raises(ConfigurationError, match="there is one for all already"):
        load_schemas([str(form), str(form)])
    (tmp_path / "bad.json").write_text('{"type": 3}')
    with pytest.raises(ConfigurationError, match="is no JSON Schema"):
        load_schemas([str(tmp_path / "bad.json")])


DEMO = Path(__file__).parents[2] / "finetune" / "demo" / "artifacts" / "exaone-demo"


def test_tokens_are_counted_as_training_lays_them_out(tmp_path: Path) -> None:
    from finetune.train.examples import encode
    from provider.engine.chat import ChatTokenizer

    path = written(tmp_path / "data.jsonl", pair("짧은 질문", "짧은 답"), pair("긴", "가" * 300))
    conversations = list(read_conversations(path))
    rows = encode(conversations, ChatTokenizer.load(DEMO), max_length=10_000).rows
    longest = max(map(len, rows))
    result = run(path, "--tokenizer", DEMO, "--max-length", longest - 1)
    assert result.exit_code == 1
    assert (
        f"data.jsonl:2: has {longest:,} tokens; expected at most {longest - 1:,}" in result.stdout
    )
    assert run(path, "--tokenizer", DEMO, "--max-length", longest).exit_code == 0
    assert "has no tokenizer.json" in run(path, "--tokenizer", tmp_path).stderr
