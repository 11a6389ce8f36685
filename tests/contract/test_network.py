"""A bad network between us and the host: what is legal HTTP works, what is broken is an error.

These run for whoever has the stand-in behind it; the local provider has no network.
"""

from __future__ import annotations

import asyncio
from typing import Any

import openai
import pytest

from tests.contract.both import all_of, each, settled
from tests.contract.requests import ask
from tests.contract.targets import HOSTED
from tests.contract.wiretap import Wiretap

pytestmark = pytest.mark.targets(*HOSTED)

LEGAL = ["gzip", "informational", "slow_drip"]
LEGAL_STREAMS = ["stream_split", "stream_glued", "slow_drip"]
# A stream of which something is missing must not look finished.
BROKEN_STREAMS = {
    "stream_reset": Exception,
    "stream_cut_event": Exception,
    "stream_error": openai.APIError,
    "stream_stall": Exception,
}
BROKEN = ["close_before", "reset_before", "short_body", "reset_mid_body", "garbage_status",
          "endless_headers", "broken_gzip"]  # fmt: skip


@pytest.mark.parametrize("fault", LEGAL)
async def test_odd_but_legal_answers(client: Any, target: Any, fault: str) -> None:
    plain = await settled(client.chat.completions.create(**ask()))
    target.standin.faults.add(fault, seconds=0.001)
    odd = await settled(client.chat.completions.create(**ask()))
    assert odd.choices == plain.choices


@pytest.mark.parametrize("fault", LEGAL_STREAMS)
async def test_odd_but_legal_streams(client: Any, target: Any, fault: str) -> None:
    texts = []
    for name in ("", fault):
        if name:
            target.standin.faults.add(name, seconds=0.001)
        stream = await settled(client.chat.completions.create(**ask(), stream=True))
        chunks = await all_of(stream)
        texts.append("".join(chunk.choices[0].delta.content or "" for chunk in chunks))
    assert texts[0] == texts[1]


@pytest.mark.parametrize("fault", BROKEN)
async def test_broken_answers_are_errors(client: Any, target: Any, fault: str) -> None:
    """The SDK's own connection error, or a 5xx of ours that says what happened."""
    target.standin.faults.add(fault)
    with pytest.raises((openai.APIConnectionError, openai.InternalServerError)) as failed:
        await settled(client.chat.completions.create(**ask()))
    if isinstance(failed.value, openai.InternalServerError):
        assert failed.value.type == "server_error"
    assert (await settled(client.chat.completions.create(**ask()))).choices


@pytest.mark.parametrize("fault", BROKEN_STREAMS)
async def test_broken_streams_are_errors(
    client: Any, target: Any, wiretap: Wiretap, fault: str
) -> None:
    target.standin.faults.add(fault, after=4)
    brief = client.with_options(timeout=1.5)
    stream = await settled(brief.chat.completions.create(**ask(), stream=True))
    with pytest.raises(BROKEN_STREAMS[fault]):
        await all_of(stream)
    await settled(stream.close())
    wiretap.exchanges.remove(wiretap.last)
    assert (await settled(client.chat.completions.create(**ask()))).choices


@pytest.mark.parametrize("fault", ["plain_text_500", "error_without_body", "bad_gateway_html"])
async def test_failures_without_openais_body(
    client: Any, target: Any, wiretap: Wiretap, fault: str
) -> None:
    target.standin.faults.add(fault)
    with pytest.raises(openai.InternalServerError) as failed:
        await settled(client.chat.completions.create(**ask()))
    assert failed.value.status_code >= 500
    wiretap.exchanges.clear()


async def test_the_hosts_headers_come_through(client: Any) -> None:
    raw = await settled(client.chat.completions.with_raw_response.create(**ask()))
    assert raw.headers["x-ratelimit-remaining-requests"] == "9999"
    assert raw.headers["openai-version"] == "2020-10-01"


async def test_query_and_headers_arrive(client: Any, target: Any) -> None:
    await settled(
        client.chat.completions.create(
            **ask(), extra_query={"trace": "a b"}, extra_headers={"x-trace": "7"}
        )
    )
    assert target.standin.last.query in ("trace=a+b", "trace=a%20b")
    assert target.standin.last.headers["x-trace"] == "7"


async def test_no_header_arrives_twice(client: Any, target: Any) -> None:
    await settled(client.chat.completions.create(**ask()))
    names = [name.lower() for name, _ in target.standin.last.raw_headers]
    assert len(names) == len(set(names))


async def test_a_stream_left_early_is_left_at_the_host_too(client: Any, target: Any) -> None:
    """Whoever hangs up stops paying: the host sees the disconnect."""
    target.standin.faults.add("stream_endless", seconds=0.01)
    stream = await settled(client.chat.completions.create(**ask(), stream=True))
    async for _ in each(stream):
        break
    await settled(stream.close())
    for _ in range(200):
        if not target.standin.connections or target.standin.last.left:
            return
        await asyncio.sleep(0.02)
    raise AssertionError("the host is still writing")
