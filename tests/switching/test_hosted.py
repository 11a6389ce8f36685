"""The hosted side over the strict stand-in: byte-exact, unbuffered, and never misleading."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provider.adapt import adapted
from provider.base import ApiRequest, ApiResponse, Provider
from provider.errors import ApiError, BadGateway, UpstreamTimeout
from provider.integrity import Integrity
from provider.lifecycle import warning
from provider.openai import OpenAIProvider
from provider.settings import Settings
from provider.streams import Gathered
from tests.standin import StandIn, serve
from tests.switching.parts import (
    CHAT,
    WHOLE_STREAM,
    Named,
    OnTheCallingThread,
    Pieces,
    chat,
    chunk,
    content_of,
)


@pytest.fixture(scope="module")
def standin() -> Iterator[StandIn]:
    with serve() as served:
        yield served


@pytest.fixture(params=["wire", "library", "calling thread", "calling thread, library"])
def hosted(
    request: pytest.FixtureRequest, standin: StandIn, monkeypatch: pytest.MonkeyPatch
) -> Provider:
    """The hosted side over each way that a request may take."""
    if "library" in request.param:  # what stands behind a proxy is not for the wire
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    standin.requests.clear()
    settings = Settings(
        _env_file=None,
        openai_base_url=standin.base_url,
        openai_api_key=standin.key,
        openai_timeout=1.0,
    )
    provider = Integrity(OpenAIProvider(settings))
    return OnTheCallingThread(provider) if "thread" in request.param else provider


def faulty(fault: str, **more: object) -> ApiRequest:
    request = chat(**more)  # type: ignore[arg-type]
    return replace(request, headers={**request.headers, "x-standin-fault": fault})


async def test_the_body_goes_out_byte_for_byte(hosted: Provider, standin: StandIn) -> None:
    body = (
        b'{ "messages":[{"content":"\\uc548\xeb\x85\x95","role":"user"}],\n "model":"gpt-4o-mini"}'
    )
    response = await hosted.answer(
        ApiRequest("POST", CHAT, {"content-type": "application/json", "x-app": "1"}, body)
    )
    assert response.status == 200
    [sent] = standin.requests
    assert sent.body == body
    assert sent.headers["x-app"] == "1"
    assert sent.headers["authorization"] == f"Bearer {standin.key}"
    assert response.body == sent.answer
    assert "x-ratelimit-limit-requests" in response.headers
    assert "set-cookie" not in response.headers
    await hosted.aclose()


async def test_the_clients_own_key_and_cookies_stay_here(
    hosted: Provider, standin: StandIn
) -> None:
    own = {"authorization": "Bearer mine", "cookie": "a=b"}
    request = replace(chat(), headers={**chat().headers, **own})
    await hosted.answer(request)
    assert "cookie" not in standin.requests[-1].headers
    assert "mine" not in str(standin.requests[-1].raw_headers)
    await hosted.aclose()


async def test_a_stream_is_passed_on_as_it_comes(hosted: Provider) -> None:
    started = time.perf_counter()
    response = await hosted.answer(faulty("slow_drip;size=40;seconds=0.005", stream=True))
    assert not isinstance(response.body, bytes)
    first = None
    async for _ in response.body:
        first = first or time.perf_counter() - started
    total = time.perf_counter() - started
    assert first is not None
    assert first < total / 2
    await hosted.aclose()


MISLEADING = [
    ("invalid_json", BadGateway),
    ("not_an_object", BadGateway),
    ("empty_object", BadGateway),
    ("empty_body", BadGateway),
    ("html_200", BadGateway),
    ("bad_utf8", BadGateway),
    ("broken_gzip", BadGateway),
    ("redirect", BadGateway),
    ("close_before", BadGateway),
    ("reset_before", BadGateway),
    ("short_body", BadGateway),
    ("reset_mid_body", BadGateway),
    ("garbage_status", BadGateway),
    ("huge_header", BadGateway),
    ("stall", UpstreamTimeout),
    ("stall_mid_body", UpstreamTimeout),
]


@pytest.mark.parametrize(("fault", "error"), MISLEADING)
async def test_a_plain_answer_is_right_or_an_error(
    hosted: Provider, fault: str, error: type[ApiError]
) -> None:
    with pytest.raises(error):
        await hosted.answer(faulty(fault))
    await hosted.aclose()


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        ("rate_limit", 429),
        ("server_error", 500),
        ("unavailable", 503),
        ("bad_gateway_html", 502),
        ("gateway_timeout_html", 504),
        ("plain_text_500", 500),
        ("error_without_body", 500),
    ],
)
async def test_an_error_keeps_its_status_and_speaks_openai(
    hosted: Provider, fault: str, status: int
) -> None:
    response = await hosted.answer(faulty(fault))
    assert response.status == status
    error = json.loads(await response.read())["error"]
    assert {"message", "type", "param", "code"} <= set(error)
    await hosted.aclose()


@pytest.mark.parametrize("fault", ["gzip", "informational", "delay;seconds=0.1"])
async def test_what_is_legal_works(hosted: Provider, fault: str) -> None:
    assert await content_of(await hosted.answer(faulty(fault)))
    await hosted.aclose()


@pytest.mark.parametrize(
    "fault",
    [
        "stream_truncated",
        "stream_no_done",
        "stream_reset",
        "stream_cut_event",
        "stream_garbage",
        "stream_stall",
    ],
)
async def test_a_stream_that_breaks_off_is_an_error(hosted: Provider, fault: str) -> None:
    response = await hosted.answer(faulty(fault, stream=True))
    with pytest.raises(ApiError):
        await response.read()
    await hosted.aclose()


async def test_a_stream_that_is_none_is_an_error(hosted: Provider) -> None:
    with pytest.raises(BadGateway):
        await hosted.answer(faulty("stream_not_streamed", stream=True))
    await hosted.aclose()


@pytest.mark.parametrize("fault", ["stream_split", "stream_comments", "stream_glued"])
async def test_legal_streams_are_passed_on(hosted: Provider, fault: str) -> None:
    response = await hosted.answer(faulty(fault, stream=True))
    assert b"[DONE]" in await response.read()
    await hosted.aclose()


async def test_an_error_event_of_the_upstream_reaches_the_client(hosted: Provider) -> None:
    response = await hosted.answer(faulty("stream_error", stream=True))
    assert b'"error"' in await response.read()
    await hosted.aclose()


async def test_leaving_hangs_up_on_the_upstream(hosted: Provider, standin: StandIn) -> None:
    response = await hosted.answer(faulty("stream_endless", stream=True))
    assert not isinstance(response.body, bytes)
    async for _ in response.body:
        break
    await response.body.aclose()
    for _ in range(200):
        if standin.requests[-1].ended:
            break
        await asyncio.sleep(0.01)
    assert standin.requests[-1].ended  # it goes on until its client leaves
    await hosted.aclose()


async def test_nobody_there_is_a_bad_gateway() -> None:
    settings = Settings(_env_file=None, openai_base_url="http://127.0.0.1:9/v1")
    with pytest.raises(BadGateway, match="could not be reached"):
        await OpenAIProvider(settings).answer(chat())


async def test_each_choice_must_finish() -> None:
    second = json.loads(chunk("둘")[6:])
    second["choices"][0]["index"] = 1
    half = b"data: " + json.dumps(second).encode() + b"\n\n"
    pieces = Pieces([*WHOLE_STREAM[:-1], half, WHOLE_STREAM[-1]])
    one = Integrity(Named("n", stream=lambda: pieces))
    with pytest.raises(BadGateway):
        await (await one.answer(chat(stream=True))).read()


def test_newer_models_get_the_parameters_they_want() -> None:
    body, changes = adapted({"model": "gpt-5-mini", "max_tokens": 9, "temperature": 0.2})
    assert body == {"model": "gpt-5-mini", "max_completion_tokens": 9}
    assert changes == ["max_tokens->max_completion_tokens", "temperature->left out"]
    assert adapted({"model": "gpt-4o-mini", "max_tokens": 9})[1] == []


def test_a_known_end_is_told() -> None:
    from datetime import date

    said = warning("gpt-4o-mini", date(2026, 11, 21))
    assert said is not None
    assert "2027-01-14 (54 days)" in said
    assert "will fail" in (warning("gpt-4o-mini", date(2027, 2, 1)) or "")
    assert warning("my-model") is None


async def test_a_proxys_page_does_not_reach_the_client() -> None:
    page = ApiResponse(502, {"content-type": "text/html"}, b"<html>nginx</html>")
    response = await Integrity(Named("n", [page])).answer(chat())
    assert b"nginx" not in await response.read()
    assert response.status == 502


async def gathered(*pieces: bytes | Exception, pause: float = 0.0) -> list[bytes | Exception]:
    body, got = Pieces(pieces, pause), list[bytes | Exception]()
    stream = Gathered(body)
    try:
        async for piece in stream:
            got.append(piece)
    except BadGateway as error:
        got.append(error)
    await stream.aclose()
    assert body.closed
    return got


class Burst:
    """Everything at once, as a network gives a burst of events; counts how far it was read."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces, self.read, self.closed = pieces, 0, False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            self.read += 1
            yield piece

    async def aclose(self) -> None:
        self.closed = True


async def test_what_arrives_together_goes_out_together() -> None:
    assert [piece async for piece in Gathered(Burst(b"a", b"b", b"c"))] == [b"abc"]
    assert [piece async for piece in Gathered(Burst())] == []


async def test_what_arrives_apart_waits_for_nothing() -> None:
    assert await gathered(b"a", b"b", pause=0.01) == [b"a", b"b"]


async def test_what_came_before_a_failure_comes_before_it() -> None:
    got = await gathered(b"a", BadGateway("gone"))
    assert got[0] == b"a"
    assert isinstance(got[1], BadGateway)


async def test_a_slow_reader_is_not_read_ahead_of_without_bound() -> None:
    burst = Burst(*[b"x" * 10_000] * 1000)
    stream = Gathered(burst)
    pieces = aiter(stream)
    await anext(pieces)
    await asyncio.sleep(0)
    assert burst.read < 20
    await stream.aclose()
    assert burst.closed
    whole = b"".join([piece async for piece in Gathered(Burst(*[b"x" * 10_000] * 1000))])
    assert len(whole) == 10_000_000


async def test_a_stream_that_fails_after_it_was_left_says_nothing() -> None:
    """No 'exception was never retrieved' in the app's log."""
    stream = Gathered(Pieces([b"a", BadGateway("gone")]))
    async for _ in stream:
        break
    await asyncio.sleep(0)
    await stream.aclose()
    await Gathered(Pieces([b"never asked for"])).aclose()


async def test_half_an_event_is_held_so_that_an_error_can_follow() -> None:
    whole, half = WHOLE_STREAM[0], WHOLE_STREAM[1][:20]
    inner = Named("n", stream=lambda: Pieces([whole + half, BadGateway("gone")]))
    response = await Integrity(inner).answer(chat(stream=True))
    pieces = aiter(response.body)  # type: ignore[arg-type]
    assert await anext(pieces) == whole
    with pytest.raises(BadGateway):
        await anext(pieces)


@given(st.lists(st.integers(1, 60), max_size=30))
def test_a_stream_is_byte_exact_however_it_is_cut(cuts: list[int]) -> None:
    sent = b": hello\r\n" + b"".join(WHOLE_STREAM) + b": no line end"
    pieces, at = list[bytes | Exception](), 0
    for cut in cuts:
        pieces.append(sent[at : at + cut])
        at += cut
    pieces.append(sent[at:])

    async def read() -> bytes:
        inner = Named("n", stream=lambda: Pieces(pieces))
        return await (await Integrity(inner).answer(chat(stream=True))).read()

    assert asyncio.run(read()) == sent
