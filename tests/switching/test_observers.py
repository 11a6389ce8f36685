"""Record, shadow and meter watch; they never change, slow or fail what they watch."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provider.base import ApiRequest, ApiResponse, samples_of
from provider.errors import BadGateway, RateLimited
from provider.meter import Meter
from provider.record import Journal, Record, forbidden
from provider.redact import personal_data, redacted
from provider.shadow import Sampling, Shadow, agreement
from provider.transcript import Transcript
from tests.switching.parts import WHOLE_STREAM, Named, Pieces, chat, chunk, completion, content_of


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


@pytest.mark.parametrize("stream", [False, True])
async def test_an_exchange_becomes_a_training_line(tmp_path: Path, stream: bool) -> None:
    path = tmp_path / "record.jsonl"
    one = Record(Named("n"), Journal(path), "openai")
    await content_of(await one.answer(chat("전화는 010-1234-5678", stream=stream)))
    [entry] = lines(path)
    assert entry["messages"][0] == {"role": "user", "content": "전화는 [PHONE]"}
    assert entry["messages"][1]["role"] == "assistant"
    assert entry["messages"][1]["content"].startswith("n")
    assert (entry["provider"], entry["model"]) == ("openai", "named-model")


async def test_what_is_not_whole_or_not_wanted_is_not_recorded(tmp_path: Path) -> None:
    path = tmp_path / "record.jsonl"
    journal = Journal(path)
    cut = ApiResponse.from_json(completion("half", finish="length"))
    one = Record(Named("n", [cut, ApiResponse(500, {}, b"{}")]), journal, "openai")
    await one.answer(chat())
    await one.answer(chat())
    refusing = ApiRequest("POST", chat().path, {"x-sllm-record": "no"}, chat().body)
    await one.answer(refusing)
    left = Record(Named("n", stream=lambda: Pieces([chunk("half")])), journal, "openai")
    await (await left.answer(chat(stream=True))).read()
    assert not path.exists()


def test_a_licence_that_forbids_training_is_respected() -> None:
    assert forbidden("LGAI-EXAONE/EXAONE-3.5-2.4B-Instruct") is not None
    assert forbidden("gpt-4o-mini") is None


async def test_a_full_disk_does_not_fail_the_request(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "record.jsonl")
    journal.path = Path("/dev/full")
    one = Record(Named("n"), journal, "openai")
    assert await content_of(await one.answer(chat())) == "n"


def test_a_torn_line_costs_only_itself(tmp_path: Path) -> None:
    path = tmp_path / "record.jsonl"
    path.write_bytes(b'{"a": 1}\n{"b": ')
    Journal(path).append({"c": 3})
    assert path.read_bytes() == b'{"a": 1}\n{"b": \n{"c":3}\n'


def test_half_a_line_on_a_full_disk_costs_only_itself(tmp_path: Path) -> None:
    """A limit on the file's size stands for the disk: the kernel takes what fits."""
    path = tmp_path / "record.jsonl"
    code = (
        "import resource, sys; from pathlib import Path; from provider.record import Journal\n"
        "journal = Journal(Path(sys.argv[1]))\n"
        "_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))\n"
        "journal.append({'first': 'x' * 50})\n"
        "for _ in range(2):\n"
        "    try: journal.append({'lost': 'y' * 50}); sys.exit('taken')\n"
        "    except OSError: pass\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))\n"
        "journal.append({'last': 1})"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)
    first, torn, last = path.read_text("utf-8").splitlines()
    assert json.loads(first)["first"]
    assert torn.startswith('{"lost"')
    assert json.loads(last) == {"last": 1}


def test_a_kill_in_the_middle_of_recording_costs_at_most_the_last_line(tmp_path: Path) -> None:
    path = tmp_path / "record.jsonl"
    code = (
        "import sys; from pathlib import Path; from provider.record import Journal\n"
        "journal = Journal(Path(sys.argv[1]))\n"
        "print('writing', flush=True)\n"
        "while True: journal.append({'text': '가' * 5000})"
    )
    for _ in range(3):
        writer = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
        assert writer.stdout is not None
        writer.stdout.readline()
        while not path.exists() or path.stat().st_size < 100_000:
            pass
        writer.kill()
        writer.wait()
        writer.stdout.close()
    Journal(path).append({"text": "after"})
    *kept, last = path.read_text("utf-8", errors="replace").splitlines()  # Hangul cut by a kill
    assert json.loads(last) == {"text": "after"}
    whole = [line for line in kept if line.endswith('"}')]
    assert len(kept) - len(whole) <= 3
    assert all(json.loads(line)["text"] for line in whole)


def test_a_journal_rotates_and_keeps_every_line(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "record.jsonl", limit=100)
    for number in range(30):
        journal.append({"number": number})
    found = [entry["number"] for path in tmp_path.iterdir() for entry in lines(path)]
    assert sorted(found) == list(range(30))
    assert len(list(tmp_path.iterdir())) > 1


def test_processes_that_rotate_at_once_keep_every_line(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from provider.record import Journal\n"
        "journal = Journal(Path(sys.argv[1]), limit=200)\n"
        "for number in range(400): journal.append({'who': sys.argv[2], 'number': number})"
    )
    path = str(tmp_path / "record.jsonl")
    writers = [subprocess.Popen([sys.executable, "-c", code, path, str(n)]) for n in range(4)]
    assert [writer.wait() for writer in writers] == [0] * 4
    found = [
        (entry["who"], entry["number"]) for path in tmp_path.iterdir() for entry in lines(path)
    ]
    assert sorted(found) == sorted((str(n), number) for n in range(4) for number in range(400))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("메일 kim.minsu+1@example.co.kr 로", "메일 [EMAIL] 로"),
        ("010-1234-5678, 02-123-4567, +82 10 1234 5678", "[PHONE], [PHONE], [PHONE]"),
        ("주민번호 900101-1234567 입니다", "주민번호 [RRN] 입니다"),
        ("면적 84.97㎡, 2026-11-21, 1234-5678-9", "면적 84.97㎡, 2026-11-21, 1234-5678-9"),
        ("방 3개, 0.85 이상", "방 3개, 0.85 이상"),
        ("a" * 1_000_000, "a" * 1_000_000),  # half an hour, if tried at each character
        ("0-" * 500_000, "0-" * 500_000),
        ("a@b@c.kr", "a@[EMAIL]"),
    ],
)
def test_personal_data_is_taken_out_and_nothing_else(text: str, expected: str) -> None:
    assert personal_data(text) == expected


def test_every_string_of_a_message_is_redacted() -> None:
    value = {"content": [{"type": "text", "text": "a@b.kr"}], "n": 1}
    assert redacted(value, personal_data) == {
        "content": [{"type": "text", "text": "[EMAIL]"}],
        "n": 1,
    }


@given(st.lists(st.integers(1, 40), max_size=40))
def test_a_transcript_does_not_care_where_pieces_are_cut(cuts: list[int]) -> None:
    whole, transcript, at = b"".join(WHOLE_STREAM), Transcript(), 0
    for cut in cuts:
        transcript.feed(whole[at : at + cut])
        at += cut
    transcript.feed(whole[at:])
    assert transcript.message() == {"role": "assistant", "content": "안녕"}


async def settled(shadow: Shadow) -> None:
    await asyncio.gather(*shadow._tasks)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_shadow_compares_off_the_path(tmp_path: Path, stream: bool) -> None:
    served = Named("n", [ApiResponse.from_json(completion('{"a":1,"b":[2,3]}'))])
    if stream:
        served = Named("n", stream=lambda: Pieces([chunk('{"a":1,"b":[2,3]}', "stop"), b"\n"]))
    other = Named("o", [ApiResponse.from_json(completion('{"a":1,"b":[2,4]}'))])
    path = tmp_path / "shadow.jsonl"
    one = Shadow(served, other, Journal(path), Sampling(rate=1.0))
    await (await one.answer(chat(stream=stream))).read()
    await settled(one)
    [entry] = lines(path)
    assert entry["agreement"] == {"a": True, "b[].length": True, "b[]": False}
    assert entry["failure"] is None
    assert other.requests[0].json["stream"] is False


async def test_what_a_shadow_keeps_of_a_text_names_nobody(tmp_path: Path) -> None:
    path = tmp_path / "shadow.jsonl"
    one = Shadow(
        Named("n", [ApiResponse.from_json(completion("010-1234-5678"))]),
        Named("o", [ApiResponse.from_json(completion("a@b.kr"))]),
        Journal(path),
        Sampling(rate=1.0),
    )
    await one.answer(chat())
    await settled(one)
    [entry] = lines(path)
    assert (entry["served"]["text"], entry["shadow"]["text"]) == ("[PHONE]", "[EMAIL]")


async def test_a_failing_shadow_is_only_noted(tmp_path: Path) -> None:
    path = tmp_path / "shadow.jsonl"
    one = Shadow(Named("n"), Named("o", [RateLimited("full")]), Journal(path), Sampling(rate=1.0))
    assert await content_of(await one.answer(chat())) == "n"
    await settled(one)
    assert "RateLimited" in lines(path)[0]["failure"]


async def test_shadows_are_bounded(tmp_path: Path) -> None:
    other = Named("o", pause=0.05)
    one = Shadow(
        Named("n"), other, Journal(tmp_path / "s.jsonl"), Sampling(1.0, concurrency=2, budget=3)
    )
    for _ in range(10):
        await one.answer(chat())
    assert (len(one._tasks), one.dropped) == (2, 8)
    await settled(one)
    for _ in range(10):
        await one.answer(chat())
        await settled(one)
    assert len(other.requests) == 3
    await one.aclose()


def test_agreement_is_leaf_by_leaf() -> None:
    assert agreement({"a": 1}, None) == {"a": False}
    assert agreement([{"x": 1}, {"x": 2}], [{"x": 1}]) == {"[].length": False, "[].x": False}
    assert agreement(1, 1.0) == {"$": True}
    assert agreement(1, True) == {"$": False}


async def test_the_meter_counts_what_was_answered() -> None:
    meter = Meter(Named("n", [RateLimited("full")]), "openai")
    with pytest.raises(RateLimited):
        await meter.answer(chat())
    await meter.answer(chat())
    await (await meter.answer(chat(stream=True))).read()
    left = await meter.answer(chat(stream=True))
    assert not isinstance(left.body, bytes)
    async for _ in left.body:
        break
    await left.body.aclose()
    found = {(s.name, dict(s.labels).get("status")): s.value for s in samples_of(meter)}
    assert found["sllm_requests_total", "429"] == 1
    assert found["sllm_requests_total", "200"] >= 1
    assert found["sllm_requests_total", "499"] == 1
    tokens = {dict(s.labels).get("direction"): s.value for s in samples_of(meter)}
    assert (tokens["in"], tokens["out"]) == (3, 2)


async def test_an_unknown_price_is_unknown_not_zero() -> None:
    meter = Meter(Named("n"), "openai")
    await meter.answer(chat())
    names = {sample.name for sample in samples_of(meter)}
    assert "sllm_cost_unknown_total" in names
    assert "sllm_cost_usd_total" not in names


async def test_a_broken_stream_is_counted_as_broken() -> None:
    broken = Pieces([chunk("half"), BadGateway("gone")])
    meter = Meter(Named("n", stream=lambda: broken), "openai")
    with pytest.raises(BadGateway):
        await (await meter.answer(chat(stream=True))).read()
    statuses = {dict(s.labels).get("status") for s in samples_of(meter)}
    assert "502" in statuses


async def test_a_stream_that_is_closed_at_its_done_counts_as_whole(tmp_path: Path) -> None:
    """The SDK reads to `[DONE]` and closes; it never asks for the end that comes after it."""
    record, shadowed = tmp_path / "record.jsonl", tmp_path / "shadow.jsonl"
    shadow = Shadow(Named("n"), Named("other"), Journal(shadowed), Sampling(rate=1.0))
    meter = Meter(Record(shadow, Journal(record), "openai"), "openai")
    response = await meter.answer(chat(stream=True))
    assert not isinstance(response.body, bytes)
    async for piece in response.body:
        if b"[DONE]" in piece:
            break
    await response.body.aclose()
    await settled(shadow)
    assert len(lines(record)) == 1
    assert len(lines(shadowed)) == 1
    statuses = {dict(s.labels).get("status") for s in samples_of(meter)} - {None}
    assert statuses == {"200"}
