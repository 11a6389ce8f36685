"""Splits that leak nothing and come out the same, mixes in their ratio, a file for each agent."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.data.check import Limits, check
from finetune.data.cli import data
from finetune.data.identity import LANGUAGES, identity
from finetune.data.language import language
from finetune.data.load import Loaded, load
from finetune.data.mix import Source, mix
from finetune.data.split import split
from provider.errors import ConfigurationError


def sentence(seed: int, words: int = 40) -> str:
    draw = random.Random(seed)
    return " ".join(
        "".join(draw.choices("가나다라마바사아자차카타파하", k=3)) for _ in range(words)
    )


def row(number: int, agent: str | None = None, **more: Any) -> dict[str, Any]:
    record = {"instruction": f"질문 {number}", "output": sentence(number), **more}
    return {**record, "agent_type": agent} if agent else record


def written(path: Path, records: list[dict[str, Any]]) -> Path:
    lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    path.write_text("".join(lines), encoding="utf-8")
    return path


def loaded(tmp_path: Path, records: list[dict[str, Any]]) -> list[Loaded]:
    return load([written(tmp_path / "rows.jsonl", records)])


def run(*arguments: object) -> Result:
    return CliRunner().invoke(data, [*map(str, arguments)], catch_exceptions=False)


def parts(rows: list[Loaded], seed: int = 0, **shares: float) -> dict[str, list[str]]:
    done = split(rows, shares, seed, 0.85)
    return {
        name: [json.dumps(r.record, sort_keys=True) for r in part]
        for name, part in done.parts.items()
    }


def test_each_agent_has_its_share_of_each_part(tmp_path: Path) -> None:
    records = [row(n, "often" if n < 80 else "seldom") for n in range(100)]
    done = split(loaded(tmp_path, records), {"validation": 0.1, "test": 0.2}, 0, 0.85)
    counts = {
        name: Counter(r.conversation.agent_type for r in part) for name, part in done.parts.items()
    }
    assert counts == {
        "train": {"often": 56, "seldom": 14},
        "validation": {"often": 8, "seldom": 2},
        "test": {"often": 16, "seldom": 4},
    }
    assert done.notes == []


def test_the_choice_follows_content_and_seed_alone(tmp_path: Path) -> None:
    records = [row(n) for n in range(60)]
    first = parts(loaded(tmp_path, records), validation=0.2)
    random.Random(1).shuffle(records)
    again = parts(loaded(tmp_path, records), validation=0.2)
    assert {name: sorted(part) for name, part in again.items()} == {
        name: sorted(part) for name, part in first.items()
    }
    other = parts(loaded(tmp_path, records), seed=1, validation=0.2)
    assert sorted(other["validation"]) != sorted(first["validation"])
    grown = parts(loaded(tmp_path, [*records, row(100)]), validation=0.2)
    assert len(set(first["validation"]) - set(grown["validation"])) <= 1


def test_what_repeats_itself_stays_on_one_side(tmp_path: Path) -> None:
    records = [row(n) for n in range(30)]
    records += [{**row(n), "output": sentence(n) + " 끝"} for n in range(30)]  # the question again
    records += [{**row(n), "instruction": f"물음 {n}"} for n in range(30)]  # nearly the same
    out = tmp_path / "out"
    said = run("split", written(tmp_path / "a.jsonl", records), "--out", out, "--validation", 0.3)
    assert said.exit_code == 0
    found = check([out / "train.jsonl"], Limits(), [out / "validation.jsonl"])
    assert len(found.training) == 63
    assert len(found.validation) == 27
    assert not [p for p in found.problems if p.kind == "leak"]


def test_what_cannot_be_divided_is_said(tmp_path: Path) -> None:
    records = [row(1, "same") for _ in range(10)] + [row(2, "single")]
    done = split(loaded(tmp_path, records), {"validation": 0.2}, 0, 0)
    assert len(done.parts["train"]) == 11
    assert [note.partition(":")[0] for note in done.notes] == ["agent 'same'", "agent 'single'"]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 8), st.sampled_from([None, "a", "b"])), min_size=1),
    st.floats(0.05, 0.5),
    st.floats(0.05, 0.45),
    st.integers(0, 3),
)
def test_a_split_keeps_every_row_once_and_leaves_something_to_train_on(
    tmp_path_factory: pytest.TempPathFactory,
    numbers: list[tuple[int, str | None]],
    validation: float,
    test: float,
    seed: int,
) -> None:
    folder = tmp_path_factory.mktemp("split")
    rows = loaded(folder, [row(number, agent) for number, agent in numbers])
    done = split(rows, {"validation": validation, "test": test}, seed, 0)
    lines = [r.conversation.line for part in done.parts.values() for r in part]
    assert sorted(lines) == list(range(1, len(rows) + 1))
    assert done.parts["train"]
    questions = [{r.conversation.messages[0]["content"] for r in p} for p in done.parts.values()]
    assert sum(map(len, questions)) == len(set().union(*questions))


def test_a_mix_has_the_ratio_and_is_as_large_as_it_can_be(tmp_path: Path) -> None:
    paths = [
        written(tmp_path / f"{name}.jsonl", [row(n, name) for n in range(size)])
        for name, size in (("a", 100), ("b", 20), ("c", 50))
    ]
    out = tmp_path / "mix.jsonl"
    said = run("mix", *paths, "--ratio", "6:2:2", "--out", out)
    agents = [r.conversation.agent_type for r in load([out])]
    assert Counter(agents) == {"a": 60, "b": 20, "c": 20}
    assert len(set(agents[:20])) == 3
    assert "b.jsonl: 20 of 20 (20%)" in said.stdout
    again = tmp_path / "again.jsonl"
    run("mix", *paths, "--ratio", "6:2:2", "--out", again)
    assert again.read_bytes() == out.read_bytes()


def test_a_source_that_is_too_small_is_said_or_repeated(tmp_path: Path) -> None:
    paths = [
        written(tmp_path / f"{name}.jsonl", [row(n, name) for n in range(size)])
        for name, size in (("a", 100), ("b", 20))
    ]
    asked = ["mix", *paths, "--ratio", "1:1", "--total", 100, "--out", tmp_path / "mix.jsonl"]
    refused = run(*asked)
    assert refused.exit_code == 2
    assert "b.jsonl has 20 conversations; 50 are needed for 100 in all. 40 in all" in refused.stderr
    assert run(*asked, "--repeat").exit_code == 0
    agents = Counter(r.conversation.agent_type for r in load([tmp_path / "mix.jsonl"]))
    assert agents == {"a": 50, "b": 50}
    wrong = run("mix", *paths, "--ratio", "6:2:2", "--out", tmp_path / "c.jsonl")
    assert "expected 2 positive numbers" in wrong.stderr


@given(
    st.lists(st.tuples(st.integers(0, 30), st.floats(0.1, 10)), min_size=1, max_size=4),
    st.integers(1, 60),
)
def test_a_mix_is_within_one_row_of_its_ratio(sizes: list[tuple[int, float]], total: int) -> None:
    [some] = load_one()
    sources = [Source(str(n), part, [some] * size) for n, (size, part) in enumerate(sizes)]
    try:
        rows = mix(sources, total, 0)
    except ConfigurationError:
        rows = mix(sources, None, 0)
        assert len(rows) < total
        return
    assert len(rows) == total


def load_one() -> list[Loaded]:
    from finetune.data.formats import conversation

    return [Loaded(row(1), conversation(row(1)))]


def test_a_file_for_each_agent_whatever_it_is_called(tmp_path: Path) -> None:
    records = [row(n, ["평면 분석", "../up", "a.b"][n % 3], id=n) for n in range(6)]
    out = tmp_path / "out"
    assert run("by-agent", written(tmp_path / "a.jsonl", records), "--out", out).exit_code == 0
    assert sorted(path.name for path in out.iterdir()) == [
        "..%2Fup.jsonl",
        "a.b.jsonl",
        "평면 분석.jsonl",
    ]
    assert [r.record["id"] for r in load([out / "평면 분석.jsonl"])] == [0, 3]
    refused = run("by-agent", written(tmp_path / "b.jsonl", [row(1)]), "--out", out)
    assert "b.jsonl:1 has no agent_type" in refused.stderr
    both = written(tmp_path / "c.jsonl", [row(1, "A"), row(2, "a")])
    assert "differ in case alone" in run("by-agent", both, "--out", tmp_path / "d").stderr


def test_bad_data_are_not_divided(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", [row(1), {"instruction": "a"}])
    refused = run("split", path, "--out", tmp_path / "out")
    assert refused.exit_code == 2
    assert "a.jsonl:2: output: is missing" in refused.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("count", [None, 90])
def test_identity_pairs_name_the_model_and_its_maker(count: int | None) -> None:
    pairs = identity("하늘이", "별빛 연구소", count=count, agent_type="me")
    asked = [record["messages"][0]["content"] for record in pairs]
    said = [record["messages"][1]["content"] for record in pairs]
    assert len({json.dumps(record) for record in pairs}) == len(pairs) == (count or 300)
    assert all("하늘이" in text or "별빛 연구소" in text for text in said)
    assert not any("{" in text for text in (*asked, *said))
    if count:
        assert Counter(map(language, asked))["ko"] >= 25
        assert len(set(asked)) == 90
    assert identity("하늘이", "별빛 연구소", count=count, agent_type="me") == pairs


def test_identity_does_not_deny_its_own_name() -> None:
    for record in identity("Llama 3 Ko", "Lab", ["en"]):
        assert not record["messages"][0]["content"].startswith("Are you Llama")


def test_identity_says_what_it_cannot_make(tmp_path: Path) -> None:
    out = tmp_path / "a.jsonl"
    base = ["identity", "--name", "N", "--maker", "M", "--out", out, "--language", "ko"]
    refused = run(*base, "--count", 1000)
    assert refused.exit_code == 2
    assert "there are 100 different pairs in ko" in refused.stderr
    assert run(*base, "--count", 10, "--system", "도우미").exit_code == 0
    assert [len(r.conversation.messages) for r in load([out])] == [3] * 10
    assert "--name is empty" in run(*base[:2], " ", *base[3:]).stderr
    assert set(LANGUAGES) == {"ko", "en", "ja"}
