"""A client that hangs up frees its slot; a stream that fails breaks off."""

from __future__ import annotations

import asyncio
import json

import pytest

from provider.errors import Unavailable
from provider.local import LocalProvider
from tests.local.asking import ASK, answered, settled
from tests.protocol.components import ERROR, check

LONG = {**ASK, "max_tokens": 600, "stream": True, "logit_bias": {"5": -100}}


async def test_hanging_up_frees_the_slot(provider: LocalProvider) -> None:
    engine = (await provider.language.get()).engine
    before = engine.stats()["cancelled"]
    for read in (0, 1, 3):
        response = await answered(provider, **LONG)
        assert not isinstance(response.body, bytes)
        pieces = aiter(response.body)
        for _ in range(read):
            await anext(pieces)
        await response.body.aclose()
        await response.body.aclose()
    await settled(provider)
    assert engine.stats()["cancelled"] == before + 3


async def test_a_cancelled_call_frees_the_slot(provider: LocalProvider) -> None:
    task = asyncio.create_task(answered(provider, **{**LONG, "stream": False}))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await settled(provider)


async def test_an_engine_that_fails_in_a_stream_breaks_it_off(provider: LocalProvider) -> None:
    engine = (await provider.language.get()).engine
    response = await answered(provider, **LONG)
    assert not isinstance(response.body, bytes)
    seen: list[bytes] = []

    async def listen() -> None:
        async for piece in response.body:  # type: ignore[union-attr]
            if not seen:
                engine.close()
            seen.append(piece)

    try:
        with pytest.raises(Unavailable):
            await listen()
    finally:
        engine.start()  # type: ignore[attr-defined]
    error = json.loads(seen[-1].removeprefix(b"data: "))
    check(error, ERROR)
    assert error["error"]["code"] == "service_unavailable"
    assert b"data: [DONE]\n\n" not in seen
