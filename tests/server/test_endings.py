"""How a server that is a process of its own ends: SIGTERM while it streams, and kill -9 while it
records."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from provider.sdk_http import httpx
from tests.server.process import served
from tests.server.wire import broken_off
from tests.standin import StandIn, serve

ASKED = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "방이 몇 개인가요?"}]}


@pytest.fixture(scope="module")
def standin() -> Iterator[StandIn]:
    with serve() as running:
        yield running


def hosted(standin: StandIn) -> dict[str, str]:
    return {"OPENAI_BASE_URL": standin.base_url, "OPENAI_API_KEY": standin.key}


def test_sigterm_lets_a_stream_finish(tmp_path: Path, standin: StandIn) -> None:
    standin.reset()
    standin.faults.add("slow_drip", size=64, seconds=0.005)
    with served(tmp_path, **hosted(standin)) as server:
        url = f"{server.url}/chat/completions"
        with httpx.stream("POST", url, json={**ASKED, "stream": True}, timeout=30) as answer:
            pieces = answer.iter_raw()
            received = next(pieces)
            server.process.terminate()
            received += b"".join(pieces)
        assert received.endswith(b"data: [DONE]\n\n")
        assert server.process.wait(30) == 0
        assert "Traceback" not in server.log()


def test_sigterm_breaks_off_loudly_what_does_not_end(tmp_path: Path, standin: StandIn) -> None:
    standin.reset()
    standin.faults.add("stream_endless")
    with served(tmp_path, **hosted(standin), SLLM_DRAIN_TIMEOUT="0.5") as server:
        url = f"{server.url}/chat/completions"
        with httpx.stream("POST", url, json={**ASKED, "stream": True}, timeout=30) as answer:
            pieces = answer.iter_raw()
            next(pieces)
            server.process.terminate()
            received = broken_off(pieces)
        last = received.strip().split(b"\n\n")[-1]
        assert json.loads(last.removeprefix(b"data: "))["error"]["code"] == "service_unavailable"
        assert server.process.wait(30) == 0


def test_kill_9_while_recording_leaves_a_file_that_goes_on(
    tmp_path: Path, standin: StandIn
) -> None:
    standin.reset()
    record = tmp_path / "record.jsonl"
    for _ in range(2):
        with served(tmp_path, **hosted(standin), LLM_RECORD=str(record)) as server:
            for _ in range(20):
                answer = httpx.post(f"{server.url}/chat/completions", json=ASKED, timeout=30)
                assert answer.status_code == 200
            os.kill(server.process.pid, signal.SIGKILL)
            server.process.wait(30)
    lines = record.read_text("utf-8").splitlines()
    assert len(lines) == 40
    assert all(json.loads(line)["messages"][-1]["role"] == "assistant" for line in lines)
