"""Chat completions of the local provider, whole and streamed."""

from __future__ import annotations

import asyncio
import json

from provider.client import OpenAI
from provider.local import LocalProvider
from tests.local.asking import ASK, answered, completion, content, events, refused


async def test_an_alias_is_answered_by_the_model_that_is_named(provider: LocalProvider) -> None:
    body = await completion(provider)
    assert body["model"] == "exaone-tiny"
    assert body["usage"]["total_tokens"] == (
        body["usage"]["prompt_tokens"] + body["usage"]["completion_tokens"]
    )
    assert body["usage"]["completion_tokens"] <= 12
    assert (await completion(provider, model="exaone-tiny"))["choices"] == body["choices"]


async def test_the_same_seed_gives_the_same_text_alone_and_in_company(
    provider: LocalProvider,
) -> None:
    alone = await completion(provider, seed=3)
    busy = await asyncio.gather(*(completion(provider, seed=seed) for seed in (3, 4, 5, 3)))
    texts = [body["choices"][0]["message"]["content"] for body in busy]
    assert texts[0] == texts[3] == alone["choices"][0]["message"]["content"]
    assert len(set(texts)) > 1


async def test_a_stream_is_the_completion_in_pieces(provider: LocalProvider) -> None:
    whole = await completion(provider, n=2)
    chunks = await events(provider, n=2)
    for choice in whole["choices"]:
        assert content(chunks, choice["index"]) == choice["message"]["content"]
    firsts = {chunk["choices"][0]["index"]: chunk for chunk in reversed(chunks)}
    for first in firsts.values():
        delta = first["choices"][0]["delta"]
        assert delta == {"role": "assistant", "content": "", "refusal": None}
    reasons = [chunk["choices"][0]["finish_reason"] for chunk in chunks]
    assert len([reason for reason in reasons if reason]) == 2


async def test_usage_in_a_stream_only_on_request(provider: LocalProvider) -> None:
    assert all("usage" not in chunk for chunk in await events(provider))
    chunks = await events(provider, stream_options={"include_usage": True})
    whole = await completion(provider)
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["total_tokens"] == whole["usage"]["total_tokens"]
    assert {json.dumps(chunk["usage"]) for chunk in chunks[:-1]} == {"null"}


async def test_usage_so_far_in_every_chunk_on_request(provider: LocalProvider) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    for n in (1, 2):
        chunks = await events(provider, stream_options=options, n=n, max_tokens=60)
        counts = [chunk["usage"]["completion_tokens"] for chunk in chunks]
        assert counts == sorted(counts)
        assert 1 <= counts[0] < counts[-1]
        assert {chunk["usage"]["prompt_tokens"] for chunk in chunks} == {
            chunks[-1]["usage"]["prompt_tokens"]
        }
        assert chunks[-1]["choices"] == []
        assert counts[-2] == counts[-1]
    alone = await refused(provider, stream=True, stream_options={"continuous_usage_stats": True})
    assert alone.param == "stream_options.continuous_usage_stats"


async def test_a_stop_string_is_not_part_of_the_text(provider: LocalProvider) -> None:
    text = (await completion(provider, max_tokens=40))["choices"][0]["message"]["content"]
    stop = text[len(text) // 2 :][:2]
    cut = (await completion(provider, max_tokens=40, stop=["never", stop]))["choices"][0]
    assert cut["message"]["content"] == text[: text.index(stop)]
    assert cut["finish_reason"] == "stop"
    assert content(await events(provider, max_tokens=40, stop=stop)) == text[: text.index(stop)]


async def test_logprobs_of_each_token(provider: LocalProvider) -> None:
    choice = (await completion(provider, logprobs=True, top_logprobs=2))["choices"][0]
    tokens = choice["logprobs"]["content"]
    joined = b"".join(bytes(token["bytes"]) for token in tokens)
    assert joined.decode("utf-8", "replace") == choice["message"]["content"]
    assert all(len(token["top_logprobs"]) == 2 for token in tokens)
    assert all(token["logprob"] <= 0 for token in tokens)
    chunks = await events(provider, logprobs=True, top_logprobs=2)
    found = [c["choices"][0]["logprobs"] for c in chunks if c["choices"][0]["logprobs"]]
    assert [token for item in found for token in item["content"]] == tokens


async def test_logit_bias_forces_and_bans(provider: LocalProvider) -> None:
    tokenizer = (await provider.language.get()).tokenizer
    wanted = tokenizer.encode("거")[0]
    body = await completion(provider, logit_bias={str(wanted): 100}, max_tokens=3)
    forced = tokenizer.token_bytes(wanted) * 3
    assert body["choices"][0]["message"]["content"] == forced.decode("utf-8", "replace")
    error = await refused(provider, logit_bias={"100000": 1})
    assert error.param == "logit_bias"


async def test_a_prediction_is_reported(provider: LocalProvider) -> None:
    greedy = {"temperature": 0}
    plain = await completion(provider, **greedy)
    text = plain["choices"][0]["message"]["content"]
    prediction = {"type": "content", "content": text}
    body = await completion(provider, **greedy, prediction=prediction)
    assert body["choices"][0]["message"]["content"] == text
    details = body["usage"]["completion_tokens_details"]
    assert details["accepted_prediction_tokens"] + details["rejected_prediction_tokens"] >= 0


async def test_a_repeated_prompt_is_cached(provider: LocalProvider) -> None:
    chat = [{"role": "user", "content": "주방 " * 60}]
    await completion(provider, messages=chat)
    again = await completion(provider, messages=chat)
    assert again["usage"]["prompt_tokens_details"]["cached_tokens"] > 0


async def test_harmless_fields_are_named_in_a_header(provider: LocalProvider) -> None:
    response = await answered(provider, **ASK, user="kim", metadata={"a": "b"}, store=False)
    assert response.headers["x-ignored-params"] == "metadata, user"
    assert "x-ignored-params" not in (await answered(provider, **ASK)).headers


def test_the_sync_client(provider: LocalProvider) -> None:
    client = OpenAI(provider=provider, max_retries=0)
    whole = client.chat.completions.create(**ASK)
    stream = client.chat.completions.create(**ASK, stream=True)
    pieces = [chunk.choices[0].delta.content or "" for chunk in stream]
    assert "".join(pieces) == whole.choices[0].message.content


async def test_a_name_that_only_exists_here_is_reported(provider: LocalProvider) -> None:
    response = await answered(provider, **{**ASK, "model": "exaone-tiny"})
    assert response.headers["x-portability"].startswith("model: OpenAI has no model 'exaone-tiny'")
    assert "x-portability" not in (await answered(provider, **ASK)).headers
