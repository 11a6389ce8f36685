"""Fallback and breaker: before the first byte only, and never for the client's own mistakes."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provider.base import ApiResponse
from provider.breaker import Breaker, Permit
from provider.errors import (
    ApiError,
    BadGateway,
    ContextTooLong,
    InvalidRequest,
    RateLimited,
    ServerError,
    Unauthenticated,
    Unavailable,
    Unreachable,
    UpstreamTimeout,
)
from provider.fallback import Fallback, Policy, seconds_told
from tests.switching.parts import Named, Pieces, chat, chunk, content_of


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def fallback(first: Named, second: Named, **policy: object) -> Fallback:
    quick = {"attempts": 1, "deadline": 5.0, **policy}
    return Fallback(first, second, Breaker(3, 10.0), Policy(**quick))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Unreachable("no"), "connect"),
        (BadGateway("broke off"), "server_error"),
        (UpstreamTimeout("slow"), "timeout"),
        (ServerError("bug"), "server_error"),
        (RateLimited("full"), "queue_full"),
        (Unavailable("dead"), "queue_full"),
        (ContextTooLong.of(10, 20), "context"),
        (ApiResponse(502, {}, b""), "server_error"),
        (ApiResponse.from_json(ContextTooLong.of(10, 20).body(), 400), "context"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_the_second_answers_what_the_first_cannot(
    error: ApiError | ApiResponse, reason: str, stream: bool
) -> None:
    first, second = Named("first", [error]), Named("second")
    response = await fallback(first, second).answer(chat(stream=stream))
    assert (await content_of(response)).startswith("second")
    assert response.headers["x-sllm-fallback"] == reason


@pytest.mark.parametrize("error", [InvalidRequest("bad"), Unauthenticated("who")])
async def test_the_clients_own_mistake_is_its_own(error: ApiError) -> None:
    second = Named("second")
    with pytest.raises(type(error)):
        await fallback(Named("first", [error]), second).answer(chat())
    assert second.requests == []


async def test_a_reason_that_is_not_selected_is_passed_on() -> None:
    one = fallback(Named("first", [RateLimited("full")]), Named("second"), reasons=["connect"])
    with pytest.raises(RateLimited):
        await one.answer(chat())
    answered = ApiResponse(500, {}, b"{}")
    one = fallback(Named("first", [answered]), Named("second"), reasons=["connect"])
    assert await one.answer(chat()) is answered


async def test_an_error_before_the_first_byte_of_a_stream_falls_back() -> None:
    broken = Pieces([BadGateway("gone")])
    first, second = Named("first", stream=lambda: broken), Named("second")
    response = await fallback(first, second).answer(chat(stream=True))
    assert await content_of(response) == "second" * 5
    assert broken.closed


async def test_after_the_first_byte_the_error_is_the_clients() -> None:
    broken = Pieces([chunk("half"), BadGateway("gone")])
    second = Named("second")
    response = await fallback(Named("first", stream=lambda: broken), second).answer(
        chat(stream=True)
    )
    with pytest.raises(BadGateway):
        await response.read()
    assert second.requests == []


async def test_only_what_was_not_carried_out_is_tried_again() -> None:
    first = Named("first", [Unreachable("no")])
    assert await content_of(await fallback(first, Named("second"), attempts=2).answer(chat())) == (
        "first"
    )
    spent = ApiResponse.from_json({"error": {"code": "insufficient_quota"}}, 429)
    for failure in (UpstreamTimeout("slow"), BadGateway("broke off"), ServerError("bug"), spent):
        first = Named("first", [failure])
        response = await fallback(first, Named("second"), attempts=5).answer(chat())
        assert await content_of(response) == "second"
        assert len(first.requests) == 1


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "-1"}, 0.0),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"retry-after": "7", "retry-after-ms": "250"}, 0.25),
        ({"retry-after": "7", "retry-after-ms": "?"}, 7.0),
    ],
)
def test_a_pause_is_read_in_every_form(headers: dict[str, str], seconds: float | None) -> None:
    assert seconds_told(headers) == seconds


async def test_a_retry_after_beyond_the_deadline_is_not_waited_for() -> None:
    first = Named("first", [RateLimited("full", retry_after=60)] * 3)
    one = fallback(first, Named("second"), attempts=3, deadline=1.0)
    async with asyncio.timeout(1.0):
        assert await content_of(await one.answer(chat())) == "second"
    assert len(first.requests) == 1


async def test_an_open_breaker_spares_the_first() -> None:
    clock = Clock()
    first, second = Named("first", [ServerError("down")] * 4), Named("second")
    one = Fallback(first, second, Breaker(3, 10.0, clock), Policy(attempts=1))
    for _ in range(5):
        assert await content_of(await one.answer(chat())) == "second"
    assert len(first.requests) == 3
    states = [one.breaker.state]
    clock.now = 11.0
    states.append(one.breaker.state)
    assert states == ["open", "half-open"]
    await one.answer(chat())  # the probe fails: open again
    assert (len(first.requests), one.breaker.state) == (4, "open")
    clock.now = 22.0
    assert await content_of(await one.answer(chat())) == "first"
    assert one.breaker.state == "closed"
    names = {sample.name for sample in one.samples()}
    assert {"sllm_fallback_total", "sllm_breaker_state"} <= names


async def test_a_half_open_breaker_lets_one_probe_through() -> None:
    clock = Clock()
    first, second = Named("first", [ServerError("down")], pause=0.05), Named("second")
    one = Fallback(first, second, Breaker(1, 10.0, clock), Policy(attempts=1))
    await one.answer(chat())
    clock.now = 10.0
    answers = await asyncio.gather(*(one.answer(chat()) for _ in range(10)))
    contents = [await content_of(answer) for answer in answers]
    assert contents.count("first") == 1
    assert contents.count("second") == 9


async def test_a_probe_whose_client_left_does_not_block_the_next() -> None:
    clock = Clock()
    first = Named("first", [ServerError("down")], pause=0.05)
    one = Fallback(first, Named("second"), Breaker(1, 10.0, clock), Policy(attempts=1))
    await one.answer(chat())
    clock.now = 10.0
    probe = asyncio.create_task(one.answer(chat()))
    await asyncio.sleep(0.01)
    probe.cancel()
    await asyncio.gather(probe, return_exceptions=True)
    assert await content_of(await one.answer(chat())) == "first"


async def test_streams_that_break_off_one_after_another_open_the_breaker() -> None:
    def broken() -> Pieces:
        return Pieces([chunk("half"), BadGateway("gone")])

    one = fallback(Named("first", stream=broken), Named("second"))
    for state in ("closed", "closed", "open"):
        with pytest.raises(BadGateway):
            await (await one.answer(chat(stream=True))).read()
        assert one.breaker.state == state
    assert await content_of(await one.answer(chat(stream=True))) == "second" * 5


async def test_a_stream_whose_reader_leaves_says_nothing() -> None:
    one = fallback(Named("first"), Named("second"))
    for _ in range(5):
        response = await one.answer(chat(stream=True))
        assert not isinstance(response.body, bytes)
        await anext(aiter(response.body))
        await response.body.aclose()
    assert one.breaker.state == "closed"


def admitted(breaker: Breaker) -> Permit:
    permit = breaker.admit()
    assert permit is not None
    return permit


def test_a_request_from_before_the_circuit_opened_does_not_move_it() -> None:
    clock = Clock()
    breaker = Breaker(1, 10.0, clock)
    late = [admitted(breaker) for _ in range(4)]
    late[0].failed()
    late[1].succeeded()
    states = [breaker.state]
    clock.now = 10.0
    probe = admitted(breaker)
    late[2].abandoned()
    assert breaker.admit() is None  # the probe is still the only one
    late[3].failed()
    states.append(breaker.state)
    probe.succeeded()
    states.append(breaker.state)
    assert states == ["open", "half-open", "closed"]


def test_a_probe_that_streams_closes_the_circuit_at_its_first_byte() -> None:
    clock = Clock()
    breaker = Breaker(1, 10.0, clock)
    admitted(breaker).failed()
    clock.now = 10.0
    probe = admitted(breaker)
    probe.began()
    states = [breaker.state]
    probe.failed()
    probe.failed()  # told once
    states.append(breaker.state)
    assert states == ["closed", "open"]


@given(st.lists(st.sampled_from(["ok", "fail", "wait", "abandon"]), max_size=60))
def test_the_breaker_admits_when_closed_and_one_probe_when_half_open(events: list[str]) -> None:
    clock = Clock()
    breaker = Breaker(3, 10.0, clock)
    for event in events:
        if event == "wait":
            clock.now += 6.0
            continue
        before = breaker.state
        permit = breaker.admit()
        assert (permit is not None) == (before != "open")
        if permit is None:
            assert breaker.retry_after > 0
            continue
        if before == "half-open":
            assert not breaker.admit()
        {"ok": permit.succeeded, "fail": permit.failed, "abandon": permit.abandoned}[event]()
        if before == "half-open" and event != "abandon":
            assert breaker.state == ("closed" if event == "ok" else "open")
