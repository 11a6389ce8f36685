"""Streams: unbuffered, broken off loudly, and ended when nobody listens."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator

import openai
import pytest

from provider.base import ApiRequest, ApiResponse
from provider.errors import BadGateway, ContextTooLong, ServerError
from provider.sdk_http import httpx
from server.joined import JoinedWrites
from tests.server.conftest import Client
from tests.server.live import live
from tests.server.scripted import Pieces, Scripted, never, streams
from tests.server.wire import CHAT, broken_off


def chunk(text: str) -> bytes:
    delta = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    body = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return f"data: {json.dumps({**body, 'choices': [delta]}, ensure_ascii=False)}\n\n".encode()


class Gated:
    """A stream whose second piece waits until the first has been read by the client."""

    def __init__(self) -> None:
        self.read = threading.Event()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield chunk("하나")
        await asyncio.to_thread(self.read.wait, 20)
        yield chunk("둘")
        yield b"data: [DONE]\n\n"

    async def aclose(self) -> None:
        self.read.set()


def test_a_piece_arrives_before_the_next_is_made() -> None:
    body = Gated()

    async def script(request: ApiRequest) -> ApiResponse:
        return ApiResponse(200, {"content-type": "text/event-stream"}, body)

    with live(Scripted({CHAT: script})) as server:
        client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="k")
        stream = client.chat.completions.create(model="m", messages=[], stream=True)
        texts = []
        for event in stream:
            texts.append(event.choices[0].delta.content)
            body.read.set()
        client.close()
    assert texts == ["하나", "둘"]


def test_a_failure_after_the_first_byte_is_an_error_for_the_sdk() -> None:
    body = Pieces(chunk("반"), BadGateway("the upstream broke off"))
    with live(Scripted({CHAT: streams(body)})) as server:
        client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="k", max_retries=0)
        stream = client.chat.completions.create(model="m", messages=[], stream=True)
        with pytest.raises(openai.APIError, match="the upstream broke off"):
            list(stream)
        client.close()


@pytest.mark.parametrize(
    ("pieces", "ends_with", "errors"),
    [
        ((chunk("a"), ServerError("broken")), b"}}\n\n", 1),
        ((chunk("a"), b'data: {"error": {}}\n\n', ServerError("broken")), b"{}}\n\n", 1),
        ((chunk("a"), b'data: {"error":{}}\n\n', ServerError("broken")), b"{}}\n\n", 1),
        ((chunk("a"), b"data: {half", ServerError("broken")), b"}}\n\n", 1),
        ((chunk("a"), ValueError("secret")), b"}}\n\n", 1),
    ],
)
def test_a_broken_stream_says_so_once_and_has_no_clean_end(
    pieces: tuple[bytes | Exception, ...], ends_with: bytes, errors: int
) -> None:
    body = Pieces(*pieces)
    with (
        live(Scripted({CHAT: streams(body)})) as server,
        httpx.stream("POST", f"{server.url}{CHAT}", json={}) as answer,
    ):
        received = broken_off(answer.iter_raw())
    assert received.count(b'data: {"error"') == errors
    assert received.endswith(ends_with)
    assert b"secret" not in received
    assert b"[DONE]" not in received
    assert body.closed.is_set()
    # Each event stands alone, also after one that was cut off.
    assert all(event.startswith(b"data: ") for event in received.strip().split(b"\n\n"))


async def test_a_failure_before_the_first_byte_keeps_its_status(
    client: Client, scripted: Scripted
) -> None:
    body = Pieces(ContextTooLong.of(10, 20))
    scripted.scripts[CHAT] = streams(body)
    async with client() as c:
        answer = await c.post(CHAT, json={"stream": True})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "context_length_exceeded")
    assert body.closed.is_set()


async def test_an_empty_stream_is_an_empty_body(client: Client, scripted: Scripted) -> None:
    scripted.scripts[CHAT] = streams(Pieces())
    async with client() as c:
        answer = await c.post(CHAT, json={})
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["x-accel-buffering"] == "no"


def test_the_deadline_ends_a_stream() -> None:
    body = Pieces(chunk("a"), pause=0.001, endless=True)
    with (
        live(Scripted({CHAT: streams(body)}), sllm_request_timeout=0.2) as server,
        httpx.stream("POST", f"{server.url}{CHAT}", json={}) as answer,
    ):
        received = broken_off(answer.iter_raw())
    assert received.endswith(b'"code": "deadline_exceeded"}}\n\n')
    assert body.closed.is_set()


async def test_the_deadline_ends_a_plain_answer(client: Client, scripted: Scripted) -> None:
    scripted.scripts[CHAT] = never
    async with client(sllm_request_timeout=0.05) as c:
        plain = await c.post(CHAT, json={})
    assert (plain.status_code, plain.json()["error"]["code"]) == (504, "deadline_exceeded")
    assert plain.headers["x-should-retry"] == "false"
    assert scripted.cancelled == 1


class Written(asyncio.Transport):
    """Keeps what is written to it, call by call."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[bytes] = []
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.calls.append(bytes(data))

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True


async def test_writes_of_one_turn_are_one() -> None:
    written = Written()
    joined = JoinedWrites(written, asyncio.get_running_loop())
    joined.write(b"head")
    joined.writelines([b"bo", b"dy"])
    assert written.calls == []
    await asyncio.sleep(0)
    assert written.calls == [b"headbody"]
    joined.write(b"x" * 70_000)
    assert len(written.calls) == 2  # much is not held, so that the client's pace is felt


async def test_a_close_loses_nothing_and_an_abort_everything() -> None:
    closed, aborted = Written(), Written()
    one = JoinedWrites(closed, asyncio.get_running_loop())
    one.write(b"last words")
    one.close()
    other = JoinedWrites(aborted, asyncio.get_running_loop())
    other.write(b"last words")
    other.abort()
    await asyncio.sleep(0)
    assert (closed.calls, aborted.calls) == ([b"last words"], [])
