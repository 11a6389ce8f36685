"""Synchronous clients are answered on their own thread where the provider only forwards."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import openai
import pytest

from provider.base import ApiRequest, ApiResponse, Holder, Provider
from provider.client import OpenAI
from provider.factory import build
from provider.here import HERE, NeedsLoop, answers_here, driven
from provider.integrity import Integrity
from provider.meter import Meter
from provider.openai import OpenAIProvider
from provider.overrides import Overrides
from provider.sdk_http import httpx
from provider.settings import Settings
from provider.switch import Switch
from tests.standin import StandIn, serve
from tests.switching.parts import Named, chat

ASKED: Any = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "안녕"}]}


@pytest.fixture(scope="module")
def standin() -> Iterator[StandIn]:
    with serve() as served:
        yield served


class Threads(Holder):
    """Notes on which thread it is asked."""

    forwards_here = True

    def __init__(self, inner: Provider) -> None:
        super().__init__(inner)
        self.seen: list[int] = []

    async def answer(self, request: ApiRequest) -> ApiResponse:
        self.seen.append(threading.get_ident())
        return await self._inner.answer(request)


def settings(standin: StandIn, **more: Any) -> Settings:
    return Settings(
        _env_file=None, openai_base_url=standin.base_url, openai_api_key=standin.key, **more
    )


def hosted(standin: StandIn, **more: Any) -> Threads:
    return Threads(Meter(Integrity(OpenAIProvider(settings(standin, **more))), "openai"))


def closed(provider: Provider) -> None:
    asyncio.run(provider.aclose())


@pytest.mark.parametrize("stream", [False, True])
def test_what_only_forwards_is_asked_on_the_callers_thread(standin: StandIn, stream: bool) -> None:
    provider = hosted(standin)
    client = OpenAI(provider=provider)
    answer: Any = client.chat.completions.create(**ASKED, stream=stream)
    assert list(answer) if stream else answer.choices
    assert provider.seen == [threading.get_ident()]
    closed(provider)


def test_so_it_is_where_the_caller_stands_in_an_event_loop_of_its_own(standin: StandIn) -> None:
    provider = hosted(standin)

    async def app() -> None:
        assert OpenAI(provider=provider).chat.completions.create(**ASKED).choices

    asyncio.run(app())
    closed(provider)


def test_who_waits_for_things_is_asked_on_the_portal() -> None:
    provider = Threads(Named("waits", pause=0.01))
    assert not answers_here(provider)
    answer = OpenAI(provider=provider).chat.completions.create(**ASKED)
    assert answer.choices[0].message.content == "waits"
    assert provider.seen != [threading.get_ident()]


def test_each_request_is_asked_where_its_provider_can_answer(
    standin: StandIn, tmp_path: Path
) -> None:
    overrides = Overrides(tmp_path / "state.json", ("openai", "local"))
    made: dict[str, Provider] = {"openai": hosted(standin), "local": Named("local", pause=0.01)}
    switch = Switch("llm", "openai", overrides, made.__getitem__, cold=frozenset({"local"}))
    client = OpenAI(provider=switch)
    for name in ("openai", "local", "openai", "local", "openai"):
        overrides.set({"llm": name})
        raw = client.chat.completions.with_raw_response.create(**ASKED)
        assert raw.headers["x-sllm-provider"] == name
    assert set(made["openai"].seen) == {threading.get_ident()}  # type: ignore[attr-defined]
    _until(lambda: made["local"].closed)  # type: ignore[attr-defined]
    closed(switch)


def test_nothing_was_done_when_a_loop_turns_out_to_be_needed(tmp_path: Path) -> None:
    named = Named("local")
    switch = Switch("llm", "local", Overrides(tmp_path / "s", ("local",)), lambda _: named)
    with pytest.raises(NeedsLoop):
        driven(switch.answer(replace(chat(), context={HERE: None})))
    assert named.requests == []


@pytest.mark.parametrize(
    "fault", ["stall", "stall_mid_body", "stream_stall", "slow_drip;seconds=.1"]
)
def test_the_clients_own_time_limit_is_its_own_error(standin: StandIn, fault: str) -> None:
    provider = hosted(standin)
    client = OpenAI(provider=provider, timeout=0.3, max_retries=0)

    def ask() -> None:
        streamed = fault == "stream_stall"
        sent = {"x-standin-fault": fault}
        answer: Any = client.chat.completions.create(**ASKED, stream=streamed, extra_headers=sent)
        list(answer)

    # openai 2 does not translate what happens within a stream; the stock client raises the same.
    kinds = (openai.APITimeoutError, *((httpx.ReadTimeout,) if fault == "stream_stall" else ()))
    with pytest.raises(kinds):
        ask()
    closed(provider)


def test_the_settings_time_limit_is_the_servers_error(standin: StandIn) -> None:
    provider = hosted(standin, openai_timeout=0.3)
    client = OpenAI(provider=provider, max_retries=0)
    with pytest.raises(openai.InternalServerError) as raised:
        client.chat.completions.create(**ASKED, extra_headers={"x-standin-fault": "stall"})
    assert raised.value.status_code == 504
    closed(provider)


def test_leaving_a_stream_hangs_up(standin: StandIn) -> None:
    provider = hosted(standin)
    endless = {"x-standin-fault": "stream_endless"}
    stream = OpenAI(provider=provider).chat.completions.create(
        **ASKED, stream=True, extra_headers=endless
    )
    next(iter(stream))
    stream.close()
    _until(lambda: bool(standin.requests[-1].ended))
    closed(provider)


def test_many_threads_share_the_connections(standin: StandIn) -> None:
    provider = hosted(standin)
    client = OpenAI(provider=provider)

    def ask(number: int) -> bool:
        answer: Any = client.chat.completions.create(**ASKED, stream=number % 2 == 0)
        return bool(list(answer) if number % 2 == 0 else answer.choices)

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(ask, range(200)))
    closed(provider)


def test_a_forked_child_has_connections_of_its_own(standin: StandIn) -> None:
    provider = hosted(standin)
    client = OpenAI(provider=provider)
    assert client.chat.completions.create(**ASKED).choices
    if (child := os.fork()) == 0:
        try:
            os._exit(0 if client.chat.completions.create(**ASKED).choices else 1)
        finally:
            os._exit(2)
    assert client.chat.completions.create(**ASKED).choices
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    closed(provider)


def test_what_waits_around_it_takes_the_portal(standin: StandIn, tmp_path: Path) -> None:
    """A fallback sleeps between its attempts."""
    fallback = settings(
        standin,
        sllm_state_file=tmp_path / "s.json",
        llm_fallback="local",
        local_llm_base_url=[standin.base_url],
    )
    provider = build(fallback)
    assert OpenAI(provider=provider).chat.completions.create(**ASKED).choices
    closed(provider)


def _until(true: Callable[[], bool]) -> None:
    for _ in range(1000):
        if true():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it has not come about within ten seconds")
