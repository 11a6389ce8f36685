"""The local side on another server, held to our contract."""

from __future__ import annotations

import json
from typing import Any

import pytest

from provider.base import ApiRequest, ApiResponse
from provider.errors import BadGateway, InvalidRequest, ModelNotFound
from provider.integrity import Integrity
from provider.protocol.normal import normal_error
from provider.remote import Remote
from provider.settings import Settings
from tests.switching.parts import Pieces, chat, content_of

VLLM_COMPLETION = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "exaone",
    "choices": [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": "안녕",
                "refusal": None,
                "annotations": None,
                "audio": None,
                "function_call": None,
                "tool_calls": [],
                "reasoning_content": None,
            },
            "logprobs": None,
            "finish_reason": "stop",
            "stop_reason": 361,
            "token_ids": None,
        }
    ],
    "service_tier": None,
    "system_fingerprint": None,
    "usage": {
        "prompt_tokens": 3,
        "total_tokens": 5,
        "completion_tokens": 2,
        "prompt_tokens_details": None,
    },
    "prompt_logprobs": None,
    "kv_transfer_params": None,
}


class Vllm:
    """Answers as vLLM does, accent and all."""

    def __init__(self, *, down: bool = False, answer: ApiResponse | None = None) -> None:
        self.down = down
        self.requests: list[ApiRequest] = []
        self._answer = answer

    async def answer(self, request: ApiRequest) -> ApiResponse:
        if self.down:
            raise BadGateway("nobody there")
        if request.path == "/v1/models":
            return ApiResponse.from_json(
                {"object": "list", "data": [{"id": "exaone", "max_model_len": 4096}]}
            )
        self.requests.append(request)
        if self._answer is not None:
            return self._answer
        if request.json.get("stream"):
            return ApiResponse(200, {"content-type": "text/event-stream"}, Pieces(self._events()))
        return ApiResponse.from_json(VLLM_COMPLETION)

    async def aclose(self) -> None: ...

    @staticmethod
    def _events() -> list[bytes]:
        def event(**choice: Any) -> bytes:
            head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "exaone"}
            body = {**head, "choices": [{"index": 0, "logprobs": None, **choice}]}
            return b"data: " + json.dumps(body, ensure_ascii=False).encode() + b"\n\n"

        whole = b"".join(
            [
                b": ping\n\n",
                event(delta={"role": "assistant", "content": ""}, finish_reason=None),
                event(
                    delta={"content": "안녕", "reasoning_content": None},
                    finish_reason=None,
                    token_ids=None,
                ),
                event(delta={"content": ""}, finish_reason="abort", stop_reason=None),
                b"data: [DONE]\n\n",
            ]
        )
        return [whole[at : at + 7] for at in range(0, len(whole), 7)]


def remote(*servers: Vllm, **settings: Any) -> Remote:
    held = Settings(_env_file=None, **settings)
    return Remote(held, [Integrity(server) for server in servers])


async def test_an_answer_comes_in_openais_shape_under_the_served_name() -> None:
    server = Vllm()
    response = await remote(server).answer(chat(model="gpt-4o-mini"))
    body = json.loads(await response.read())
    assert server.requests[0].json["model"] == "exaone"
    assert set(body["choices"][0]) == {"index", "message", "logprobs", "finish_reason"}
    assert body["choices"][0]["message"] == {
        "role": "assistant",
        "content": "안녕",
        "refusal": None,
    }
    assert "kv_transfer_params" not in body
    assert body["usage"] == {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


async def test_a_prediction_is_accounted_for_where_one_was_sent() -> None:
    prediction = {"type": "content", "content": "안녕"}
    response = await remote(Vllm()).answer(chat(prediction=prediction))
    assert json.loads(await response.read())["usage"]["completion_tokens_details"] == {
        "accepted_prediction_tokens": 0,
        "rejected_prediction_tokens": 0,
    }


async def test_a_stream_comes_in_openais_shape() -> None:
    response = await remote(Vllm()).answer(chat(stream=True))
    raw = await response.read()
    assert b"reasoning_content" not in raw
    assert b": ping" not in raw
    assert b"abort" not in raw
    assert raw.endswith(b"data: [DONE]\n\n")
    again = await remote(Vllm()).answer(chat(stream=True))
    assert await content_of(again) == "안녕"


async def test_what_the_other_server_would_ignore_is_refused_here() -> None:
    server = Vllm()
    with pytest.raises(InvalidRequest):
        await remote(server).answer(chat(no_such_parameter=1))
    with pytest.raises(InvalidRequest):
        await remote(server).answer(chat(temperature=3))
    assert server.requests == []


async def test_our_request_id_stays_here() -> None:
    server = Vllm()
    asked = chat().with_headers({"x-request-id": "req_1", "traceparent": "00-1-2-01"})
    await remote(server).answer(asked)
    assert dict(server.requests[0].headers) == {"traceparent": "00-1-2-01"}


async def test_an_unknown_model_is_not_found() -> None:
    with pytest.raises(ModelNotFound):
        await remote(Vllm()).answer(chat(model="nope"))
    listed = await remote(Vllm()).answer(ApiRequest("GET", "/v1/models/exaone"))
    assert json.loads(await listed.read())["object"] == "model"


async def test_several_servers_share_and_stand_in_for_each_other() -> None:
    one, two, down = Vllm(), Vllm(), Vllm(down=True)
    spread = remote(one, down, two)
    for _ in range(12):
        assert await content_of(await spread.answer(chat())) == "안녕"
    assert min(len(one.requests), len(two.requests)) >= 3
    with pytest.raises(BadGateway):
        await remote(Vllm(down=True)).answer(chat())


@pytest.mark.parametrize("status", [429, 502, 503])
async def test_a_server_without_room_is_passed_over(status: int) -> None:
    busy = {"error": {"message": "busy", "type": "x", "code": status}}
    full, free = Vllm(answer=ApiResponse.from_json(busy, status, {"retry-after": "7"})), Vllm()
    spread = remote(full, free)
    for _ in range(4):
        assert await content_of(await spread.answer(chat())) == "안녕"
    refused = await remote(full).answer(chat())
    assert (refused.status, refused.headers["retry-after"]) == (status, "7")


async def test_a_server_that_dies_before_its_first_event_is_passed_over() -> None:
    class Dying(Vllm):
        async def answer(self, request: ApiRequest) -> ApiResponse:
            if request.path == "/v1/models":
                return await super().answer(request)
            events = {"content-type": "text/event-stream"}
            return ApiResponse(200, events, Pieces([BadGateway("The connection broke.")]))

    spread = remote(Dying(), Vllm())
    for _ in range(3):
        assert await content_of(await spread.answer(chat(stream=True))) == "안녕"


@pytest.mark.parametrize(
    ("body", "status", "expected"),
    [
        ({"error": "Unauthorized"}, 401, ("Unauthorized", "invalid_api_key")),
        ({"object": "error", "message": "m", "code": 400}, 400, ("m", None)),
        ({"error": {"message": "m", "type": "BadRequestError", "code": 400}}, 400, ("m", None)),
        ({"detail": "Not Found"}, 404, ("Not Found", "model_not_found")),
        (
            {"error": {"message": "maximum context length is 10", "code": 400}},
            400,
            ("maximum context length is 10", "context_length_exceeded"),
        ),
        ([1], 500, ("The server failed with status 500.", None)),
    ],
)
def test_any_error_body_becomes_openais(
    body: Any, status: int, expected: tuple[str, str | None]
) -> None:
    error = normal_error(body, status)["error"]
    assert (error["message"], error["code"]) == expected
    assert set(error) == {"message", "type", "param", "code"}


async def test_a_text_completion_is_checked_and_passed_on() -> None:
    server = Vllm(answer=ApiResponse.from_json({"id": "cmpl-1", "choices": [{"text": "x"}]}))
    ask = ApiRequest("POST", "/v1/completions")
    asked = {"model": "gpt-4o-mini", "prompt": ["a", "b"]}
    answer = await remote(server).answer(ask.with_json(asked))
    assert json.loads(await answer.read())["choices"] == [{"text": "x"}]
    sent = server.requests[-1].json
    assert (sent["model"], sent["prompt"]) == ("exaone", ["a", "b"])
    for more in ({"suffix": "x"}, {"top_k": 3}):  # it does not say that it is vLLM
        with pytest.raises(InvalidRequest) as caught:
            await remote(server).answer(ask.with_json({**asked, **more}))
        assert caught.value.param in more
