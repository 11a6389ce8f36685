# mypy: disable-error-code="import-not-found, untyped-decorator"
"""instructor: a pydantic model from every mode it knows for OpenAI."""

from __future__ import annotations

from typing import Any, Literal

import instructor
import openai
import pytest
from pydantic import BaseModel


class Verdict(BaseModel, extra="forbid"):
    """A verdict on a floor plan; closed, since an untrained model would invent further keys."""

    grade: Literal["good", "poor"]
    lit: bool


ASKED: list[Any] = [{"role": "user", "content": "Judge this plan, answer in JSON: 거실"}]
ASK: dict[str, Any] = {"model": "gpt-4o-mini", "messages": ASKED, "max_tokens": 200,
                       "temperature": 0, "seed": 7, "max_retries": 0}  # fmt: skip

MODES = [instructor.Mode.TOOLS, instructor.Mode.TOOLS_STRICT, instructor.Mode.JSON_SCHEMA]


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)
def test_modes(base_url: str, key: str, mode: instructor.Mode) -> None:
    client = instructor.from_openai(openai.OpenAI(base_url=base_url, api_key=key), mode=mode)
    assert isinstance(client.chat.completions.create(**ASK, response_model=Verdict), Verdict)


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)
async def test_modes_async(base_url: str, key: str, mode: instructor.Mode) -> None:
    raw = openai.AsyncOpenAI(base_url=base_url, api_key=key)
    client = instructor.from_openai(raw, mode=mode)
    assert isinstance(await client.chat.completions.create(**ASK, response_model=Verdict), Verdict)
    await raw.close()


def test_partial(base_url: str, key: str) -> None:
    client = instructor.from_openai(openai.OpenAI(base_url=base_url, api_key=key))
    parts = list(client.chat.completions.create_partial(**ASK, response_model=Verdict))
    assert parts[-1].grade in ("good", "poor")


def test_with_the_raw_completion(base_url: str, key: str) -> None:
    client = instructor.from_openai(openai.OpenAI(base_url=base_url, api_key=key))
    verdict, raw = client.chat.completions.create_with_completion(**ASK, response_model=Verdict)
    assert isinstance(verdict, Verdict)
    assert raw.usage.total_tokens > 0
