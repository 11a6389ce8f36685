"""POST /v1/completions: a prompt as it is."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import openai
import pytest
from openai.types import Completion

from provider.client import AsyncOpenAI
from provider.errors import ApiError
from provider.local import LocalProvider
from provider.protocol.portability import text_completion
from tests.local.asking import answered, settled

TEXTS = "/v1/completions"
ASK: dict[str, Any] = {"model": "gpt-4o-mini", "prompt": "The kitchen", "max_tokens": 8, "seed": 5}


async def completion(provider: LocalProvider, **more: Any) -> dict[str, Any]:
    response = await answered(provider, TEXTS, **{**ASK, **more})
    body: dict[str, Any] = json.loads(await response.read())
    if not more.get("echo"):  # a prompt's first token has no log-probability; OpenAI sends null
        Completion.model_validate(body, strict=True)
    return body


async def chunks(provider: LocalProvider, **more: Any) -> list[dict[str, Any]]:
    response = await answered(provider, TEXTS, **{**ASK, **more, "stream": True})
    lines = (await response.read()).split(b"\n\n")
    assert lines[-2:] == [b"data: [DONE]", b""]
    return [json.loads(line.removeprefix(b"data: ")) for line in lines[:-2]]


def texts(body: dict[str, Any]) -> list[str]:
    return [choice["text"] for choice in body["choices"]]


def joined(found: list[dict[str, Any]], index: int = 0) -> str:
    choices = [choice for chunk in found for choice in chunk["choices"]]
    return "".join(choice["text"] for choice in choices if choice["index"] == index)


async def refused(provider: LocalProvider, **more: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        await answered(provider, TEXTS, **{**ASK, **more})
    return caught.value


async def test_a_text_goes_on(provider: LocalProvider) -> None:
    body = await completion(provider)
    assert (body["object"], body["model"]) == ("text_completion", "exaone-tiny")
    tokenizer = (await provider.language.get()).tokenizer
    assert body["usage"]["prompt_tokens"] == len(tokenizer.encode_prompt("The kitchen"))
    ids = await completion(provider, prompt=tokenizer.encode_prompt("The kitchen"))
    assert texts(ids) == texts(body)
    assert joined(await chunks(provider)) == texts(body)[0]


async def test_sixteen_tokens_where_nothing_is_said(provider: LocalProvider) -> None:
    tokenizer = (await provider.language.get()).tokenizer
    never = {str(end): -100 for end in tokenizer.eos_ids}
    body = await completion(provider, max_tokens=None, logit_bias=never)
    assert body["usage"]["completion_tokens"] == 16
    assert body["choices"][0]["finish_reason"] == "length"
    longer = await completion(provider, max_tokens=None, min_tokens=20)
    assert longer["usage"]["completion_tokens"] >= 20


async def test_control_tokens_of_the_prompt_count_as_such(provider: LocalProvider) -> None:
    tokenizer = (await provider.language.get()).tokenizer
    messages = [{"role": "user", "content": "거실"}]
    ids = tokenizer.encode_chat(messages)
    rendered = tokenizer.decode(ids, keep_special=True)
    if rendered:
        assert tokenizer.encode_prompt("[|user|]")[-1] in tokenizer.special_ids
        assert tokenizer.encode("[|user|]")[-1] not in tokenizer.special_ids


async def test_several_prompts_and_answers(provider: LocalProvider) -> None:
    prompts = ["The kitchen", "거실은", "The kitchen"]
    body = await completion(provider, prompt=prompts, n=2)
    assert [choice["index"] for choice in body["choices"]] == list(range(6))
    said = texts(body)
    assert said[0:2] == said[4:6]
    assert said[0] != said[1]
    alone = [texts(await completion(provider, prompt=prompt, n=2)) for prompt in prompts]
    assert said == [text for pair in alone for text in pair]
    found = await chunks(provider, prompt=prompts, n=2)
    assert [joined(found, index) for index in range(6)] == said


async def test_more_prompts_than_the_engine_takes_at_once(provider: LocalProvider) -> None:
    body = await completion(provider, prompt=["a", "b"] * 30, max_tokens=1, temperature=0)
    assert len(body["choices"]) == 60
    assert len(set(texts(body)[0::2])) == len(set(texts(body)[1::2])) == 1


async def test_echo(provider: LocalProvider) -> None:
    plain = texts(await completion(provider))[0]
    assert texts(await completion(provider, echo=True)) == ["The kitchen" + plain]
    assert joined(await chunks(provider, echo=True)) == "The kitchen" + plain
    tokenizer = (await provider.language.get()).tokenizer
    body = await completion(provider, prompt=tokenizer.encode("거실"), echo=True)
    assert texts(body)[0].startswith("거실")
    control = min(tokenizer.special_ids)
    body = await completion(provider, prompt=[control, *tokenizer.encode("거실")], echo=True)
    said = tokenizer.token_bytes(control).decode()
    assert said
    assert texts(body)[0].startswith(f"{said}거실")


async def test_logprobs_in_the_older_shape(provider: LocalProvider) -> None:
    choice = (await completion(provider, logprobs=2, prompt="거실은 남향"))["choices"][0]
    scores = choice["logprobs"]
    assert len(scores["tokens"]) == len(scores["token_logprobs"]) == len(scores["text_offset"])
    assert all(2 <= len(top) <= 3 for top in scores["top_logprobs"])
    for token, logprob, top in zip(
        scores["tokens"], scores["token_logprobs"], scores["top_logprobs"], strict=True
    ):
        assert top[token] == logprob <= 0
    assert scores["text_offset"] == sorted(scores["text_offset"])
    assert scores["text_offset"][0] == 0
    assert scores["text_offset"][-1] <= len(choice["text"])
    found = [c["choices"][0]["logprobs"] for c in await chunks(provider, logprobs=2,
             prompt="거실은 남향")]  # fmt: skip
    assert [offset for part in found for offset in part["text_offset"]] == scores["text_offset"]
    none = (await completion(provider, logprobs=0))["choices"][0]["logprobs"]
    assert all(len(top) == 1 for top in none["top_logprobs"])


@pytest.mark.parametrize("prompt", ["거실은 남향이고 The kitchen " * 12, "a"])
async def test_the_prompts_own_logprobs(provider: LocalProvider, prompt: str) -> None:
    tokenizer = (await provider.language.get()).tokenizer
    ids = tokenizer.encode_prompt(prompt)
    plain = await completion(provider, prompt=prompt, logprobs=1, echo=False)
    body = await completion(provider, prompt=prompt, logprobs=1, echo=True)
    assert texts(body)[0] == prompt + texts(plain)[0]
    assert body["usage"]["prompt_tokens"] == plain["usage"]["prompt_tokens"] == len(ids)
    assert body["usage"]["completion_tokens"] == plain["usage"]["completion_tokens"]
    scores = body["choices"][0]["logprobs"]
    assert len(scores["tokens"]) == len(ids) + len(plain["choices"][0]["logprobs"]["tokens"])
    assert scores["token_logprobs"][0] is scores["top_logprobs"][0] is None
    assert scores["text_offset"][len(ids)] == len(prompt)
    found = await chunks(provider, prompt=prompt, logprobs=1, echo=True)
    parts = [chunk["choices"][0]["logprobs"] for chunk in found]
    together = {name: [value for part in parts for value in part[name]] for name in scores}
    assert (together["tokens"], together["text_offset"]) == (
        scores["tokens"],
        scores["text_offset"],
    )
    assert together["token_logprobs"] == pytest.approx(scores["token_logprobs"], abs=1e-4)
    # What the model says of the prompt's last token after the others, asked directly.
    if len(ids) > 1:
        asked = await completion(provider, prompt=ids[:-1], logprobs=20, max_tokens=1, echo=False,
                                 logit_bias={str(ids[-1]): 100})  # fmt: skip
        expected = asked["choices"][0]["logprobs"]["token_logprobs"][0]
        assert scores["token_logprobs"][len(ids) - 1] == pytest.approx(expected, abs=1e-3)


async def test_usage_of_a_stream(provider: LocalProvider) -> None:
    found = await chunks(
        provider, prompt=["a", "b"], stream_options={"include_usage": True}, temperature=0
    )
    whole = await completion(provider, prompt=["a", "b"], temperature=0)
    assert found[-1]["choices"] == []
    assert found[-1]["usage"]["total_tokens"] == whole["usage"]["total_tokens"]
    assert all(chunk["usage"] is None for chunk in found[:-1])
    assert all("usage" not in chunk for chunk in await chunks(provider))


async def test_a_bound_text(provider: LocalProvider) -> None:
    body = await completion(provider, structured_outputs={"choice": ["남향", "북향"]})
    assert texts(body)[0] in {"남향", "북향"}
    json_body = await completion(provider, guided_json={"enum": [["b"]]})
    assert texts(json_body) == ['["b"]']


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"prompt": None}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": ["a", 1]}, "prompt[1]"),
        ({"prompt": [10**6]}, "prompt[0]"),
        ({"prompt": [[1], [10**6]]}, "prompt[1][0]"),
        ({"prompt": "word " * 5000}, "prompt"),
        ({"prompt": ["a", "word " * 5000]}, "prompt[1]"),
        ({"messages": []}, "messages"),
        ({"best_of": 3}, "best_of"),
        ({"suffix": "x"}, "suffix"),
        ({"logprobs": 21}, "logprobs"),
        ({"logprobs": True}, "logprobs"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 5000}, "max_tokens"),
        ({"stream_options": {"include_us": True}}, "stream_options.include_us"),
        ({"tools": []}, "tools"),
        ({"guided_regex": "("}, "guided_regex"),
        ({"logit_bias": {"100000": 1}}, "logit_bias"),
    ],
)
async def test_refusals(provider: LocalProvider, more: dict[str, Any], param: str) -> None:
    for stream in (False, True):
        error = await refused(provider, **more, stream=stream)
        assert (error.status, error.param) == (400, param)


async def test_stream_options_need_a_stream(provider: LocalProvider) -> None:
    assert (await refused(provider, stream_options={"include_usage": True})).param == (
        "stream_options"
    )


async def test_a_rollback_needs_the_chat_path(provider: LocalProvider) -> None:
    response = await answered(provider, TEXTS, **ASK, user="kim", best_of=1)
    assert response.headers["x-portability"] == str(text_completion())
    assert response.headers["x-ignored-params"] == "user"


async def test_a_stream_that_is_left_ends_all_of_its_work(provider: LocalProvider) -> None:
    never = {str(end): -100 for end in (await provider.language.get()).tokenizer.eos_ids}
    response = await answered(
        provider,
        TEXTS,
        **{**ASK, "max_tokens": 500, "prompt": ["a"] * 40, "logit_bias": never, "stream": True},
    )
    assert not isinstance(response.body, bytes)
    async for _ in response.body:
        break
    await response.body.aclose()
    await asyncio.wait_for(settled(provider), 20)


async def test_through_the_sdk(client: AsyncOpenAI) -> None:
    whole = await client.completions.create(**ASK)
    stream = await client.completions.create(**ASK, stream=True)
    assert "".join([chunk.choices[0].text async for chunk in stream]) == whole.choices[0].text
    with pytest.raises(openai.NotFoundError):
        await client.completions.create(**{**ASK, "model": "nobody"})
