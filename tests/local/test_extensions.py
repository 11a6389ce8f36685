"""Parameters of other servers, answered by the engine."""

from __future__ import annotations

import json
from typing import Any

import pytest

from provider.client import AsyncOpenAI
from provider.local import LocalProvider
from tests.local.asking import ASK, answered, completion, content, events, refused


def said(body: dict[str, Any]) -> str:
    text: str = body["choices"][0]["message"]["content"]
    return text


async def test_top_k_one_is_greedy(provider: LocalProvider) -> None:
    greedy = said(await completion(provider, temperature=0))
    assert said(await completion(provider, top_k=1)) == greedy
    assert said(await completion(provider, min_p=1)) == greedy
    assert said(await completion(provider)) != greedy


async def test_a_repetition_penalty_is_in_effect(provider: LocalProvider) -> None:
    plain = said(await completion(provider, temperature=0, max_tokens=40))
    assert said(await completion(provider, temperature=0, max_tokens=40, repetition_penalty=2)) != (
        plain
    )


async def test_endings(provider: LocalProvider) -> None:
    tokenizer = (await provider.language.get()).tokenizer
    end = str(min(tokenizer.eos_ids))
    assert (await completion(provider, logit_bias={end: 100}))["usage"]["completion_tokens"] == 1
    on = await completion(provider, logit_bias={end: 100}, ignore_eos=True)
    assert (on["usage"]["completion_tokens"], on["choices"][0]["finish_reason"]) == (12, "length")
    later = await completion(provider, logit_bias={end: 100}, min_tokens=4)
    assert later["usage"]["completion_tokens"] == 5
    text = said(await completion(provider))
    kept = await completion(provider, stop=text[2:4], include_stop_str_in_output=True)
    assert said(kept) == text[: text.index(text[2:4]) + 2]
    token = tokenizer.encode("거")[0]
    stopped = await completion(provider, logit_bias={str(token): 100}, stop_token_ids=[token])
    assert (said(stopped), stopped["choices"][0]["finish_reason"]) == ("", "stop")
    assert (await refused(provider, stop_token_ids=[10**6])).param == "stop_token_ids"


@pytest.mark.parametrize(
    ("more", "texts"),
    [
        ({"guided_choice": ["남향", "북향"]}, {"남향", "북향"}),
        ({"structured_outputs": {"regex": "[0-9]{3}-[0-9]{4}"}}, None),
        ({"guided_json": {"enum": ["a", ["b"]]}}, {'"a"', '["b"]'}),
        ({"grammar": 'root ::= "yes" | "no"'}, {"yes", "no"}),
    ],
)
async def test_bound_text(
    provider: LocalProvider, more: dict[str, Any], texts: set[str] | None
) -> None:
    body = await completion(provider, **more)
    assert texts is None or said(body) in texts
    assert texts is not None or len(said(body)) == 8
    assert content(await events(provider, **more)) == said(body)


async def test_through_the_sdk(client: AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(
        **ASK, extra_body={"structured_outputs": {"choice": ["좋음"]}, "top_k": 5}
    )
    assert answer.choices[0].message.content == "좋음"


async def test_the_answer_says_what_is_not_portable(provider: LocalProvider) -> None:
    response = await answered(provider, **{**ASK, "top_k": 5})
    assert response.headers["x-portability"].startswith("top_k: OpenAI refuses it")
    assert json.loads(await response.read())["choices"]
