"""Chat completions, whole."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import openai
import pytest

from tests.contract.both import each, settled
from tests.contract.requests import HELLO, VERDICT, ask, strict
from tests.contract.targets import CHAT
from tests.contract.wiretap import Wiretap

LONG = strict("long", VERDICT)


async def test_create(client: Any) -> None:
    answer = await settled(client.chat.completions.create(**ask()))
    choice = answer.choices[0]
    assert isinstance(choice.message.content, str)
    assert choice.finish_reason in ("stop", "length")
    assert choice.message.tool_calls is None
    assert answer.model


async def test_only_required_fields(client: Any) -> None:
    request = {"model": CHAT, "messages": [{"role": "user", "content": "json"}]}
    schema = strict("yes", VERDICT)
    answer = await settled(client.chat.completions.create(**request, response_format=schema))
    assert answer.choices[0].finish_reason == "stop"


async def test_usage_adds_up(client: Any) -> None:
    usage = (await settled(client.chat.completions.create(**ask()))).usage
    assert usage.prompt_tokens > 5
    assert 1 <= usage.completion_tokens <= 24 + 1
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


async def test_a_longer_prompt_counts_more(client: Any) -> None:
    short = await settled(client.chat.completions.create(**ask(max_tokens=1)))
    more = [*HELLO, {"role": "assistant", "content": "네."}, *HELLO[1:] * 3]
    longer = await settled(client.chat.completions.create(**ask(max_tokens=1, messages=more)))
    assert longer.usage.prompt_tokens > short.usage.prompt_tokens + 20


@pytest.mark.parametrize("limit", ["max_tokens", "max_completion_tokens"])
async def test_cut_answers_end_length(client: Any, limit: str) -> None:
    request = ask(response_format=LONG)
    del request["max_tokens"]
    answer = await settled(client.chat.completions.create(**request, **{limit: 3}))
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens <= 3


async def test_several_answers(client: Any) -> None:
    answer = await settled(client.chat.completions.create(**ask(n=3, temperature=1.5)))
    assert [choice.index for choice in answer.choices] == [0, 1, 2]


async def test_stop_strings_end_an_answer_and_are_not_in_it(client: Any) -> None:
    whole = await settled(client.chat.completions.create(**ask(temperature=0)))
    text = whole.choices[0].message.content
    if len(text) < 4:
        pytest.skip("the model said next to nothing")
    stop = text[2:4]
    cut = await settled(
        client.chat.completions.create(**ask(temperature=0, stop=["\u2400never", stop]))
    )
    assert cut.choices[0].message.content == text[: text.index(stop)]
    assert cut.choices[0].finish_reason == "stop"


@pytest.mark.parametrize("how", [{"seed": 11, "temperature": 1.3}, {"temperature": 0}])
async def test_same_request_and_seed_same_text(client: Any, how: dict[str, Any]) -> None:
    first, second = [
        (await settled(client.chat.completions.create(**ask(**how)))).choices[0].message.content
        for _ in range(2)
    ]
    assert first == second


async def test_logprobs(client: Any) -> None:
    answer = await settled(client.chat.completions.create(**ask(logprobs=True, top_logprobs=3)))
    choice = answer.choices[0]
    tokens = choice.logprobs.content
    assert choice.logprobs.refusal is None
    said = b"".join(bytes(token.bytes) for token in tokens)
    assert said.decode(errors="replace").startswith(choice.message.content)
    for token in tokens:
        assert token.logprob <= 0
        assert len(token.top_logprobs) <= 3
        ranked = [top.logprob for top in token.top_logprobs]
        assert ranked == sorted(ranked, reverse=True)


async def test_logprobs_without_top(client: Any) -> None:
    answer = await settled(client.chat.completions.create(**ask(logprobs=True)))
    assert all(token.top_logprobs == [] for token in answer.choices[0].logprobs.content)


async def test_no_logprobs_unless_asked(client: Any) -> None:
    answer = await settled(client.chat.completions.create(**ask(logprobs=False)))
    assert answer.choices[0].logprobs is None


@pytest.mark.parametrize(
    "more",
    [
        {"presence_penalty": 1.5},
        {"frequency_penalty": -1.5},
        {"logit_bias": {"7": -100, "8": 5}},
        {"top_p": 0.4, "temperature": 1.2},
        {"user": "user-1"},
        {"store": False},
        {"service_tier": "auto"},
        {"parallel_tool_calls": None},
        {"temperature": None, "stop": None, "n": None, "seed": None, "logit_bias": None},
        {"prompt_cache_key": "plans", "safety_identifier": "u1"},
        {"prediction": {"type": "content", "content": "거실은 밝습니다."}},
        {"response_format": {"type": "text"}},
        {"modalities": ["text"]},
    ],
    ids=lambda more: "+".join(more),
)
async def test_takes(client: Any, more: dict[str, Any]) -> None:
    if "parallel_tool_calls" in more:
        more = {"extra_body": {"stream": None}}
    answer = await settled(client.chat.completions.create(**ask(**more)))
    assert answer.choices[0].finish_reason in ("stop", "length")


async def test_prediction_is_accounted_for(client: Any) -> None:
    prediction = {"type": "content", "content": "거실은 밝습니다."}
    usage = (await settled(client.chat.completions.create(**ask(prediction=prediction)))).usage
    details = usage.completion_tokens_details
    assert details.accepted_prediction_tokens >= 0
    assert details.rejected_prediction_tokens >= 0


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "hi"}],
        [{"role": "user", "content": [{"type": "text", "text": "안"}, {"type": "text",
                                                                      "text": "녕"}]}],
        [{"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
         {"role": "user", "content": "hi", "name": "kim"}],
        [{"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "2"},
         {"role": "user", "content": "그럼 2+2?"}],
        [{"role": "user", "content": "1+1?"},
         {"role": "assistant", "content": [{"type": "text", "text": "2"}], "refusal": None},
         {"role": "user", "content": "why?"}],
        [{"role": "assistant", "content": "Hello, I am first."}],
        [{"role": "user", "content": ""}],
    ],
    ids=["developer", "parts", "system-parts", "turns", "assistant-parts", "assistant-last",
         "empty-text"],
)  # fmt: skip
async def test_conversations(client: Any, messages: list[Any]) -> None:
    answer = await settled(client.chat.completions.create(**ask(messages=messages)))
    assert answer.choices[0].message.role == "assistant"


async def test_parts_are_the_same_as_their_text(client: Any) -> None:
    parts = [{"type": "text", "text": "창은 "}, {"type": "text", "text": "몇 개?"}]
    counted = []
    for content in ("창은 몇 개?", parts):
        request = ask(messages=[{"role": "user", "content": content}], temperature=0)
        answer = await settled(client.chat.completions.create(**request))
        counted.append(answer.usage.prompt_tokens)
    assert abs(counted[0] - counted[1]) <= 1


async def test_raw_response(client: Any, wiretap: Wiretap) -> None:
    raw = await settled(client.chat.completions.with_raw_response.create(**ask()))
    assert raw.status_code == 200
    assert raw.headers["content-type"].startswith("application/json")
    assert raw.headers["x-request-id"]
    assert raw.parse().id in wiretap.last.body.decode()


async def test_request_id_is_on_the_answer(client: Any) -> None:
    answer = await settled(client.chat.completions.create(**ask()))
    assert answer._request_id


async def test_many_at_once_are_not_mixed(target: Any, face: str, client: Any) -> None:
    """The same requests alone and together give the same texts."""
    asked = [
        ask(seed=n, temperature=1, messages=[{"role": "user", "content": f"{n}번 방은?"}])
        for n in range(6)
    ]
    alone = [await _text(client, request) for request in asked]
    if face == "sync":
        jobs = [asyncio.to_thread(client.chat.completions.create, **request) for request in asked]
        answers = await asyncio.gather(*jobs)
        together = [answer.choices[0].message.content for answer in answers]
    else:
        together = await asyncio.gather(*(_text(client, request) for request in asked))
    assert together == alone


async def _text(client: Any, request: dict[str, Any]) -> Any:
    answer = await settled(client.chat.completions.create(**request))
    return answer.choices[0].message.content


async def test_a_deadline_is_a_timeout(target: Any, client: Any) -> None:
    """Whoever answers: an answer that does not come in time is the SDK's APITimeoutError."""
    if target.standin is not None:
        target.standin.faults.add("stall")
    slow = client.with_options(timeout=0.5 if target.standin else 0.001)
    with pytest.raises(openai.APITimeoutError):
        await settled(slow.chat.completions.create(**ask(n=4, max_tokens=400)))
    assert (await settled(client.chat.completions.create(**ask()))).choices


async def test_many_streams_at_once_are_not_mixed(face: str, client: Any) -> None:
    """Streams that are read side by side say what they say alone."""
    asked = [
        ask(seed=n, messages=[{"role": "user", "content": f"{n}번 방의 창은?"}]) for n in range(5)
    ]
    alone = [await _text(client, request) for request in asked]
    if face == "sync":
        jobs = [asyncio.to_thread(_streamed, client, request) for request in asked]
    else:
        jobs = [_streamed_async(client, request) for request in asked]
    assert await asyncio.gather(*jobs) == alone


def _streamed(client: Any, request: dict[str, Any]) -> str:
    chunks = list(client.chat.completions.create(**request, stream=True))
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


async def _streamed_async(client: Any, request: dict[str, Any]) -> str:
    stream = await client.chat.completions.create(**request, stream=True)
    return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])


async def test_ids_are_unique_and_times_are_now(client: Any) -> None:
    answers = [await settled(client.chat.completions.create(**ask())) for _ in range(3)]
    assert len({answer.id for answer in answers}) == 3
    assert len({answer._request_id for answer in answers}) == 3
    assert all(abs(answer.created - time.time()) < 60 for answer in answers)


async def test_stop_strings_hold_in_streams_too(client: Any) -> None:
    whole = await _text(client, ask(temperature=0))
    if len(whole) < 6:
        pytest.skip("the model said next to nothing")
    stop = whole[3:6]
    request = ask(temperature=0, stop=[stop])
    stream = await settled(client.chat.completions.create(**request, stream=True))
    said = "".join([chunk.choices[0].delta.content or "" async for chunk in each(stream)])
    assert said == whole[: whole.index(stop)]


async def test_answers_differ_when_drawn(client: Any) -> None:
    """n answers of one request are drawn apart, and seeds draw apart."""
    hot = ask(temperature=1.5, max_tokens=24)
    answer = await settled(client.chat.completions.create(**hot | {"n": 4}))
    assert len({choice.message.content for choice in answer.choices}) > 1
    drawn = {await _text(client, hot | {"seed": seed}) for seed in range(4)}
    assert len(drawn) > 1
