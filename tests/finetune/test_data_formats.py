"""What users of other trainers and of spreadsheets bring: read as it was meant, or refused."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from finetune.data.check import Limits, check
from finetune.data.formats import conversation
from finetune.data.malformed import Malformed
from finetune.data.mend import mend
from finetune.data.problem import Problem
from finetune.data.read import read_conversations

WEATHER = {"name": "weather", "parameters": {"type": "object"}}


def read(path: Path) -> tuple[list[Any], list[str]]:
    problems: list[Problem] = []
    found = list(read_conversations(path, problems.append))
    return found, [str(p).removeprefix(str(path)) for p in problems]


def test_sharegpt_tool_calls_become_ours() -> None:
    read = conversation(
        {
            "system": "친절히",
            "tools": json.dumps([WEATHER]),
            "conversations": [
                {"from": "human", "value": "서울 날씨?"},
                {
                    "from": "function_call",
                    "value": '[{"name": "weather", "arguments": {"city": "서울"}}, '
                    '{"name": "weather", "arguments": "{}"}]',
                },
                {"from": "observation", "value": "3"},
                {"from": "observation", "value": "4"},
                {"from": "gpt", "value": "3도"},
            ],
        }
    )
    roles = [message["role"] for message in read.messages]
    assert roles == ["system", "user", "assistant", "tool", "tool", "assistant"]
    calls = read.messages[2]["tool_calls"]
    assert [call["function"]["arguments"] for call in calls] == ['{"city":"서울"}', "{}"]
    answered = [message["tool_call_id"] for message in read.messages[3:5]]
    assert answered == [call["id"] for call in calls]
    assert read.tools[0]["function"] == WEATHER


def test_alpacas_history_comes_first_and_a_prompt_of_messages_is_not_learnt() -> None:
    alpaca = conversation(
        {"instruction": "c", "output": "C", "system": "s", "history": [["a", "A"], ["b", "B"]]}
    )
    assert [m["content"] for m in alpaca.messages] == ["s", "a", "A", "b", "B", "c", "C"]
    text = conversation({"prompt": "고양이", "completion": "cat"})
    assert [m["content"] for m in text.messages] == ["고양이", "cat"]
    chat = conversation(
        {
            "prompt": [
                {"role": "user", "content": "a"},
                {"role": "assistant", "content": "A"},
                {"role": "user", "content": "b"},
            ],
            "completion": [{"role": "assistant", "content": "B"}],
        }
    )
    assert [m.get("weight") for m in chat.messages] == [None, 0, None, None]


HI, ANSWER = {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}


@pytest.mark.parametrize(
    ("record", "field", "said"),
    [
        ({"conversations": [{"from": "human", "value": "<image>?"}, {"from": "gpt", "value": "x"}],
          "images": ["a.png"]}, "images", "read text only"),
        ({"prompt": "a", "chosen": "b", "rejected": "c"}, "chosen", "preferences (DPO)"),
        ({"messages": [ANSWER, HI, ANSWER]}, "messages[0]", "an assistant speaks first"),
        ({"system": "s", "conversations": [{"from": "gpt", "value": "x"},
          {"from": "human", "value": "y"}, {"from": "gpt", "value": "x"}]},
         "conversations[0]", "an assistant speaks first"),
        ({"system": "s", "conversations": [{"from": "human", "value": "y"},
          {"from": "gpt", "value": 3}]}, "conversations[1].content", "expected"),
        ({"instruction": "a", "output": ""}, "output", "is empty"),
        ({"instruction": "a", "output": "b", "history": [["x"]]}, "history[0]", "[question, "),
        ({"instruction": "a", "output": "b", "history": [["x", ""]]}, "history", "is empty"),
        ({"conversations": [{"from": "human", "value": "a"},
          {"from": "observation", "value": "3"}, {"from": "gpt", "value": "b"}]},
         "conversations[1].from", "answers no function_call"),
        ({"conversations": [{"from": "human", "value": "a"},
          {"from": "function_call", "value": "weather()"}, {"from": "gpt", "value": "b"}]},
         "conversations[1].value", "is no JSON"),
        ({"prompt": "a", "completion": [ANSWER]}, "prompt", "expected text in prompt"),
    ],
)  # fmt: skip
def test_what_cannot_be_learnt_is_named_as_the_file_has_it(
    record: dict[str, Any], field: str, said: str
) -> None:
    with pytest.raises(Malformed) as refused:
        conversation(record)
    assert refused.value.field == field
    assert said in refused.value.reason


def test_a_csv_file_is_read_by_its_columns(tmp_path: Path) -> None:
    path = tmp_path / "excel.csv"
    text = (
        "instruction,input,output,agent_type\r\n"
        '"안녕, ""너""\r\n둘째 줄",,반가워요,a\r\n\r\nb,c,d,\r\n'
    )
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    found, problems = read(path)
    assert problems == []
    assert [c.line for c in found] == [2, 5]
    assert found[0].messages[0]["content"] == '안녕, "너"\r\n둘째 줄'
    assert (found[0].agent_type, found[1].agent_type) == ("a", None)
    mend([path], tmp_path / "fixed.jsonl", set(), {})
    assert len(read(tmp_path / "fixed.jsonl")[0]) == 2
    for name, separator in (("a.tsv", "\t"), ("b.csv", ";")):
        (tmp_path / name).write_text(
            separator.join(["instruction", "output"]) + f"\na{separator}b\n"
        )
        assert read(tmp_path / name)[0][0].answer["content"] == "b"
    with gzip.open(tmp_path / "c.csv.gz", "wb") as file:
        file.write(b"prompt,completion\nx,y\n")
    assert len(read(tmp_path / "c.csv.gz")[0]) == 1


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("instruction,output\n안녕,하세요\n".encode("cp949"), ": is not UTF-8 (Excel's plain CSV "
         "is CP949 in Korea); save it as 'CSV UTF-8'"),
        (b"", ":1: the file is empty; expected a first row with the columns' names"),
        (b"output,output\na,b\n", ":1: the column 'output' stands twice; keep one"),
        (b"instruction,output\na,b,c\n", ":2: has 3 cells; expected 2, as the first row has"),
        (b'instruction,output\n"a,b\n', ":2: is no CSV: unexpected end of data"),
        ("질문,답\n가,나\n".encode(), ":2: has 질문, 답; expected messages, conversations, "
         "instruction with output, or prompt with completion"),
    ],
)  # fmt: skip
def test_a_csv_file_that_cannot_be_read_says_what_to_do(
    tmp_path: Path, content: bytes, said: str
) -> None:
    path = tmp_path / "data.csv"
    path.write_bytes(content)
    assert read(path) == ([], [said])


def test_a_file_of_empty_lines_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "blank.jsonl"
    path.write_text("\n\n")
    checked = check([path], Limits())
    assert checked.errors == 1
    assert any("has empty lines only" in problem.reason for problem in checked.problems)


def test_a_system_message_in_the_middle_is_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    late = [HI, {"role": "system", "content": "s"}, ANSWER]
    path.write_text(json.dumps({"messages": late}))
    checked = check([path], Limits())
    assert checked.errors == 0
    (found,) = (p for p in checked.problems if p.kind == "system message")
    assert found.field == "messages[1]"
