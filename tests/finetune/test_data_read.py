"""Conversations are read in every format, and each bad line is named by number, field, reason."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from finetune.data.check import Limits, check
from finetune.data.conversation import Conversation
from finetune.data.formats import conversation
from finetune.data.lines import LONGEST
from finetune.data.malformed import Malformed
from finetune.data.problem import BadData, Problem
from finetune.data.read import read_conversations
from provider import OpenAI, Settings
from provider.protocol import chat
from tests.standin import StandIn

HI = [{"role": "user", "content": "안녕"}, {"role": "assistant", "content": "반가워요"}]
TOOL = {"type": "function", "function": {"name": "area", "parameters": {"type": "object"}}}
CALL = {"id": "c1", "type": "function", "function": {"name": "area", "arguments": "{}"}}


def written(path: Path, *records: Any) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def read(path: Path) -> tuple[list[Conversation], list[Problem]]:
    problems: list[Problem] = []
    return list(read_conversations(path, problems.append)), problems


def malformed(record: dict[str, Any]) -> tuple[str, str]:
    with pytest.raises(Malformed) as caught:
        conversation(record)
    return caught.value.field, caught.value.reason


@pytest.mark.parametrize(
    "record",
    [
        {"messages": HI},
        {"conversations": HI},
        {
            "conversations": [
                {"from": "human", "value": "안녕"},
                {"from": "gpt", "value": "반가워요"},
            ]
        },
        {"instruction": "안녕", "output": "반가워요"},
        {"instruction": "", "input": "안녕", "output": "반가워요", "system": None},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "안녕"}]}, HI[1]]},
    ],
)
def test_each_format_says_the_same(record: dict[str, Any], tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", {"messages": HI}, {**record, "agent_type": "greeter"})
    conversations, problems = read(path)
    assert problems == []
    assert [c.messages for c in conversations] == [tuple(HI)] * 2
    assert [(c.agent_type, c.line) for c in conversations] == [(None, 1), ("greeter", 2)]
    assert conversations[1].source == str(path)


def test_instruction_and_input_are_one_question_and_objects_are_json() -> None:
    read = conversation({"instruction": "Analyse.", "input": {"방": 3}, "output": {"ok": True}})
    assert [m["content"] for m in read.messages] == ['Analyse.\n\n{"방":3}', '{"ok":true}']


def test_what_the_record_wrote_keeps_its_tools_and_format() -> None:
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}}
    asked = {"messages": [*HI[:1], {"role": "assistant", "content": None, "tool_calls": [CALL]}]}
    read = conversation(
        {**asked, "tools": [TOOL], "response_format": form, "model": "gpt-4o-mini", "usage": None}
    )
    assert read.model == "gpt-4o-mini"
    assert read.answer["tool_calls"] == [CALL]
    assert read.request() == {**asked, "tools": [TOOL], "response_format": form}


def test_calls_in_the_older_spelling_become_tool_calls() -> None:
    function = {"name": "area", "arguments": "{}"}
    read = conversation(
        {
            "messages": [
                HI[0],
                {"role": "assistant", "content": None, "function_call": function},
                {"role": "function", "name": "area", "content": "84"},
                {"role": "assistant", "content": "84㎡", "weight": 1},
            ],
            "functions": [TOOL["function"]],
        }
    )
    assert read.tools == (TOOL,)
    parsed = chat.parse({"model": "m", **read.request()})
    assert [m.role for m in parsed.messages] == ["user", "assistant", "tool", "assistant"]
    assert parsed.messages[2].answers == parsed.messages[1].calls[0].id


@pytest.mark.parametrize(
    ("record", "field", "reason"),
    [
        ({"text": "a"}, "", "has text; expected messages"),
        ({"messages": HI, "conversations": HI}, "", "messages and conversations"),
        ({"instruction": "a", "inputs": "b", "output": "c"}, "inputs", "did you mean input"),
        ({"instruction": "a"}, "output", "is missing"),
        ({"instruction": "a", "output": ""}, "output", "is empty"),
        ({"instruction": 1, "output": "b"}, "instruction", "got an integer"),
        ({"messages": "hi"}, "messages", "got a string"),
        ({"messages": []}, "messages", "is empty"),
        ({"messages": ["hi"]}, "messages[0]", "got a string"),
        ({"messages": [HI[1]]}, "messages", "no user's message"),
        ({"messages": HI[:1]}, "messages[0].role", "expected an assistant's answer"),
        ({"messages": [{"role": "bot", "content": "a"}, HI[1]]}, "messages[0].role", "'bot'"),
        ({"messages": [{"role": "user"}, HI[1]]}, "messages[0].content", "Missing"),
        ({"messages": [{"role": "user", "content": 3}, HI[1]]}, "messages[0].content", "integer"),
        ({"messages": [*HI, {"role": "tool", "tool_call_id": "x", "content": ""}, HI[1]]},
         "messages[2].role", "must be a response"),
        ({"messages": [HI[0], {"role": "assistant", "tool_calls": [CALL]}, *HI]},
         "messages[2].role", "did not have response messages"),
        ({"messages": [HI[0], {**HI[1], "weight": 2}]}, "messages[1].weight", "0 or 1"),
        ({"messages": HI, "tools": "{"}, "tools", "no JSON"),
        ({"messages": HI, "tools": [{"type": "function"}]}, "tools[0].function", "Missing"),
        ({"messages": HI, "tools": [TOOL, TOOL]}, "tools[1].function.name", "already taken"),
        ({"messages": HI, "agent_type": 3}, "agent_type", "got an integer"),
        ({"conversations": [{"from": "human"}]}, "conversations[0].value", "is missing"),
        ({"messages": [{"role": "user", "content": "\ud800"}, HI[1]]}, "messages[0].content",
         "surrogate"),
    ],
)  # fmt: skip
def test_a_bad_record_names_field_and_reason(
    record: dict[str, Any], field: str, reason: str
) -> None:
    said = malformed(record)
    assert said[0] == field
    assert reason in said[1]


def line_problems(path: Path, raw: bytes) -> tuple[int, list[tuple[int, str]]]:
    path.write_bytes(raw)
    conversations, problems = read(path)
    return len(conversations), [(p.line, p.reason) for p in problems if p.severity == "error"]


GOOD = json.dumps({"messages": HI}, ensure_ascii=False).encode()


@pytest.mark.parametrize(
    ("raw", "kept", "line", "reason"),
    [
        (b"", 0, 0, "the file is empty"),
        (GOOD + b"\n{\n" + GOOD, 2, 2, "no JSON: Expecting property name"),
        (GOOD + b"\r\n[1]\r\n", 1, 2, "holds an array"),
        (b'{"a":1}\n' + GOOD, 1, 1, "has a; expected"),
        (GOOD[:-20] + b"\n" + GOOD, 1, 1, "no JSON"),
        ('{"instruction":"가"}'.encode()[:17] + b"\n" + GOOD, 1, 1, "not UTF-8 (a character cut"),
        ("안녕".encode("cp949") + b"\n", 0, 1, "not UTF-8"),
        (b'{"a":NaN}\n', 0, 1, "NaN is not JSON"),
        (b'{"output":"a","output":"b"}\n', 0, 1, "'output' stands twice"),
        (b'{"messages":[{"role":"user","role":"system"}]}\n', 0, 1, "'role' stands twice"),
        (b'{"a":' + b"[" * 100_000 + b"\n" + GOOD, 1, 1, "nested too deeply"),
        (bytes(range(256)) * 100, 0, 0, "is no text file"),
        (GOOD.decode().encode("utf-16"), 0, 0, "UTF-16"),
        (b"[", 0, 0, "read as one array"),
        (b"[]", 0, 0, "the array is empty"),
        (b"[" + GOOD + b",3]", 1, 2, "holds a number"),
        (b"\x1f\x8b\x08junk", 0, 0, "gzip file is damaged"),
        (gzip.compress(GOOD * 50)[:-30], 0, 0, "gzip file is damaged"),
    ],
)
def test_a_bad_line_is_named_and_the_others_are_read(
    raw: bytes, kept: int, line: int, reason: str, tmp_path: Path
) -> None:
    read, [(number, said)] = line_problems(tmp_path / "a.jsonl", raw)
    assert (read, number) == (kept, line)
    assert reason in said


def test_a_byte_order_mark_and_blank_lines_are_warnings(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD + b"\n\n" + GOOD)
    conversations, problems = read(path)
    assert [c.line for c in conversations] == [1, 3]
    assert [(p.line, p.severity) for p in problems] == [(1, "warning"), (2, "warning")]


def test_gzip_and_arrays_are_read_as_lines_are(tmp_path: Path) -> None:
    zipped, array = tmp_path / "a.jsonl.gz", tmp_path / "a.json"
    zipped.write_bytes(gzip.compress(GOOD + b"\n" + GOOD))
    array.write_bytes(b"\n[" + GOOD + b",\n" + GOOD + b"]")
    assert [c.line for c in read_conversations(zipped)] == [1, 2]
    assert [c.line for c in read_conversations(array)] == [1, 2]


def test_a_line_of_ten_megabytes_is_read_and_a_longer_one_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with path.open("wb") as file:
        file.write(json.dumps({"instruction": "a", "output": "b" * 10_000_000}).encode() + b"\n")
        file.write(b" " * (LONGEST + 5) + GOOD + b"\n" + GOOD + b"\n")
    conversations, [problem] = read(path)
    assert [c.line for c in conversations] == [1, 3]
    assert problem.line == 2
    assert "longer than 33,554,432 bytes" in problem.reason


def test_without_a_report_the_first_bad_line_raises(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", {"messages": HI}, {"messages": HI[:1]})
    with pytest.raises(BadData, match=r"a\.jsonl:2: messages\[0\]\.role: the last message"):
        list(read_conversations(path))
    with pytest.raises(BadData, match="cannot be read \\(No such file"):
        list(read_conversations(tmp_path / "none.jsonl"))


def test_what_may_not_be_read_is_said(tmp_path: Path) -> None:
    closed, me = tmp_path / "closed", os.geteuid()
    closed.mkdir(mode=0o000)
    try:
        if me == 0:
            os.seteuid(65534)  # root may read everything, nobody may not
        assert "Permission denied" in read(closed / "a.jsonl")[1][0].reason
        assert read(closed)[1][0].reason.endswith("(Permission denied)")
    finally:
        os.seteuid(me)
        closed.chmod(0o755)


@pytest.fixture
def saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], Path]:
    import datasets  # type: ignore[import-untyped]

    datasets.disable_progress_bars()

    def save(records: list[dict[str, Any]]) -> Path:
        datasets.Dataset.from_list(records).save_to_disk(tmp_path / "set")
        return tmp_path / "set"

    return save


def test_a_datasets_directory_is_read_without_its_padding(
    saved: Callable[[Any], Path],
) -> None:
    call = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    path = saved(
        [
            {"messages": HI, "tools": None},
            {"messages": [HI[0], call], "tools": json.dumps([TOOL])},
        ]
    )
    first, second = read_conversations(path)
    assert first.messages == tuple(HI)
    assert second.answer == call
    assert second.tools == (TOOL,)
    assert second.line == 2


def test_a_directory_that_is_no_dataset_is_said(
    tmp_path: Path, saved: Callable[[Any], Path]
) -> None:
    import datasets

    assert "is no datasets directory" in read(tmp_path)[1][0].reason
    several = datasets.DatasetDict({"train": datasets.load_from_disk(saved([{"messages": HI}]))})
    several.save_to_disk(tmp_path / "several")
    assert (
        f"name one of {tmp_path / 'several' / 'train'}" in read(tmp_path / "several")[1][0].reason
    )
    (tmp_path / "set" / "state.json").write_text("{}")
    assert "cannot be read as a datasets directory" in read(tmp_path / "set")[1][0].reason


def test_what_llm_record_wrote_is_read(tmp_path: Path, standin: StandIn) -> None:
    path = tmp_path / "record.jsonl"
    settings = Settings(
        _env_file=None,
        openai_base_url=standin.base_url,
        openai_api_key=SecretStr(standin.key),
        llm_record=path,
        sllm_state_file=tmp_path / "switch",
    )
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    form: Any = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    with OpenAI(settings=settings) as client:
        asked: Any = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "area?"}]}
        client.chat.completions.create(**asked, response_format=form)
        called: Any = {"tools": [TOOL], "tool_choice": "required"}
        client.chat.completions.create(**asked, **called)
        with client.chat.completions.create(**asked, stream=True) as stream:
            assert list(stream)
    as_json, calling, text = read_conversations(path)
    assert set(json.loads(as_json.answer["content"])) == {"n"}
    assert as_json.response_format == form
    assert calling.answer["content"] is None
    assert calling.answer["tool_calls"][0]["function"]["name"] == "area"
    assert text.answer["content"].startswith("area?")
    assert {c.model for c in (as_json, calling, text)} == {"gpt-4o-mini-2024-07-18"}
    assert kinds_of(path) <= {"length", "language"}


def kinds_of(path: Path) -> set[str]:
    return {problem.kind for problem in check([path], Limits(near=0)).problems} - {"contradiction"}


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)
TURNS = st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=4)


@given(TURNS, st.none() | TEXT, st.booleans())
def test_what_was_read_is_written_and_read_again(
    turns: list[tuple[str, str]], agent: str | None, tools: bool
) -> None:
    said = [
        {"role": role, "content": text}
        for turn in turns
        for role, text in zip(("user", "assistant"), turn, strict=True)
    ]
    first = conversation(
        {"messages": said, "agent_type": agent, "tools": [TOOL] if tools else None}
    )
    assert conversation(json.loads(json.dumps(first.record()))) == first
    assert [m.content for m in chat.parse({"model": "m", **first.request()}).messages] == [
        message["content"] for message in said
    ]


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner:
    st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["role", "content", "messages", "from", "value", "tools",
        "tool_calls", "output", "instruction", "weight", "function_call", "user"]), inner,
        max_size=4), max_leaves=12))  # fmt: skip
def test_nothing_but_malformed_is_raised(value: Any) -> None:
    for record in (value, {"messages": value}, {"messages": [value, HI[1]]}, {"tools": value}):
        if isinstance(record, dict):
            with contextlib.suppress(Malformed):
                conversation(record)
