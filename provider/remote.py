"""The local side on another server: vLLM, SGLang, llama.cpp or Ollama behind `LOCAL_LLM_BASE_URL`.

Those servers speak OpenAI's API with an accent: parameters they do not know are ignored, error
codes are integers, a 401 is a bare string, streams carry fields of their own. This provider holds
them to our contract: a request is checked against the table of parameters before it leaves, and
what comes back is brought into OpenAI's shape or refused. Tools are our own business
(`provider.remote_turn`). Several addresses share the load; one that cannot be reached is passed
over.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from provider.base import ApiRequest, ApiResponse, Provider, warm_up
from provider.errors import ApiError, BadGateway, ModelNotFound
from provider.integrity import Integrity
from provider.openai import OpenAIProvider
from provider.protocol import breach, chat, replies, sse, texts, values
from provider.protocol.bound import by_schema
from provider.protocol.chat import ChatRequest
from provider.protocol.completion import Head
from provider.protocol.constraints import CALLING, constraint, enforceable
from provider.protocol.conversation import conversation
from provider.protocol.dialect import extended, spelt
from provider.protocol.normal import normal_completion, normal_error, normal_models
from provider.protocol.portability import header
from provider.remote_stream import NormalStream, fewer_than
from provider.remote_turn import Declined, Turn, untooled
from provider.streams import primed

if TYPE_CHECKING:
    from provider.settings import Settings

CHAT = "/v1/chat/completions"
TEXTS = "/v1/completions"
MODELS = "/v1/models"
_COOL_DOWN = 5.0
"""Seconds for which a server that could not be reached is asked last."""
_ELSEWHERE = {429, 502, 503}
"""Answers after which another server may have room."""
_UNUSED_KEY = SecretStr("EMPTY")  # what vLLM's own documentation uses where no key is asked for


class Remote:
    """Answers chat completions and models from other servers, in OpenAI's shapes.

    Raises `InvalidRequest` for what our contract refuses, `BadGateway` when no server answers.
    """

    def __init__(self, settings: Settings, servers: list[Provider] | None = None) -> None:
        self._settings = settings
        self._servers = servers or [
            Integrity(OpenAIProvider(_for(settings, url))) for url in settings.local_llm_base_url
        ]
        self._turn = itertools.cycle(range(len(self._servers)))
        self._served: tuple[str, ...] = ()
        self._maker = ""
        self._down_since: dict[int, float] = {}

    async def answer(self, request: ApiRequest) -> ApiResponse:
        if (request.method, request.path) == ("POST", TEXTS):
            return await self._written(request)
        if (request.method, request.path) != ("POST", CHAT):
            return await self._other(request)
        asked = chat.parse(request.json)
        model = await self._model(asked.model)
        self._check(asked)
        if asked.format.type != "text" or asked.tools.callable:
            asked = await asyncio.to_thread(_checked, asked)
        body = extended({**untooled(request.json), "model": model}, asked, self._maker)
        calling = asked.tools.mode in CALLING
        response = await (self._with_tools if calling else self._text)(request, asked, body)
        if not asked.ignored:
            return response
        ignored = header(asked.ignored, ", ")
        return replace(response, headers={**response.headers, "x-ignored-params": ignored})

    def _check(self, asked: ChatRequest) -> None:
        if asked.running_usage and self._maker != "vllm":
            raise values.unsupported(
                "stream_options.continuous_usage_stats",
                "The server behind LOCAL_LLM_BASE_URL does not count while it streams; leave it "
                "out and ask for include_usage.",
            )

    async def aclose(self) -> None:
        for server in self._servers:
            await server.aclose()

    def warm_up(self) -> None:
        for server in self._servers:
            warm_up(server)

    async def _text(
        self, request: ApiRequest, asked: ChatRequest, body: dict[str, Any]
    ) -> ApiResponse:
        """The answer to a request without tools, or that may not call any."""
        sent = spelt({**body, "messages": conversation(asked)}, self._maker)
        response = await self._ask(request.with_json(sent))
        predicted = request.json.get("prediction") is not None
        if isinstance(response.body, bytes):
            return _normal(response, lambda body: _complete(body, asked, predicted))
        return replace(response, body=NormalStream(response.body, asked, predicted))

    async def _with_tools(
        self, request: ApiRequest, asked: ChatRequest, body: dict[str, Any]
    ) -> ApiResponse:
        """The answer to a request that may call tools."""
        order = self._order()  # one for the whole turn: it is in the first server's cache

        async def ask(sent: Mapping[str, Any]) -> ApiResponse:
            return await self._ask(request.with_json(spelt(sent, self._maker)), order)

        turn = Turn(ask, asked, body, by_schema(asked), vllm=self._maker == "vllm")
        head = Head(f"chatcmpl-{uuid.uuid4().hex}", int(time.time()), body["model"], "")
        try:
            if asked.stream:
                stream = await replies.streamed(asked, head, turn.events())
                return ApiResponse(200, sse.HEADERS, stream)
            return ApiResponse.from_json(await replies.completed(asked, head, turn.events()))
        except Declined as declined:
            return _about_tools(declined)

    async def _written(self, request: ApiRequest) -> ApiResponse:
        """A text completion: checked, and passed on as the server writes it."""
        asked = texts.parse(request.json).chat
        model = await self._model(asked.model)
        self._check(asked)
        body = extended({**request.json, "model": model}, asked, self._maker)
        response = await self._ask(request.with_json(spelt(body, self._maker)))
        return _normal(response, dict) if isinstance(response.body, bytes) else response

    async def _other(self, request: ApiRequest) -> ApiResponse:
        if request.method == "GET" and request.path == MODELS:
            return ApiResponse.from_json(await self._models())
        if request.method == "GET" and request.path.startswith(f"{MODELS}/"):
            wanted = request.path.removeprefix(f"{MODELS}/")
            for model in (await self._models())["data"]:
                if model["id"] == wanted:
                    return ApiResponse.from_json(model)
            raise ModelNotFound.of(wanted)
        return _normal(await self._ask(request), lambda body: body)

    async def _models(self) -> dict[str, Any]:
        response = await self._ask(ApiRequest("GET", MODELS))
        body = json.loads(await response.read())
        if response.status != 200:
            raise BadGateway(f"The server behind LOCAL_LLM_BASE_URL answered {response.status}.")
        models = normal_models(body)
        self._served = tuple(model["id"] for model in models["data"])
        self._maker = next((str(model["owned_by"]) for model in models["data"]), "")
        return models

    async def _model(self, asked: str) -> str:
        """The served name that a name in a request means."""
        if (known := self._resolve(asked)) is not None:
            return known
        await self._models()  # an adapter may have been loaded since the last look
        if (known := self._resolve(asked)) is not None:
            return known
        raise ModelNotFound.of(asked)

    def _resolve(self, asked: str) -> str | None:
        if asked not in self._served and asked == self._settings.openai_embedding_model:
            return None
        aliases = self._settings.model_aliases
        target = asked if asked in self._served else aliases.get(asked, aliases.get("*"))
        default = self._settings.local_llm_name or next(iter(self._served), None)
        name = default if target == "default" else target
        return name if name in self._served else None

    async def _ask(self, request: ApiRequest, order: Sequence[int] = ()) -> ApiResponse:
        """The first answer of the servers in `order`, by default the next server first. One that
        cannot be reached, breaks off before it has said anything, or has no room is passed over."""
        request = request.with_headers(_headers(request.headers))
        failure: ApiError | None = None
        answer: ApiResponse | None = None
        for number in order or self._order():
            try:
                answer = await primed(await self._servers[number].answer(request))
            except BadGateway as error:
                self._down_since[number] = time.monotonic()
                failure = error
                continue
            if answer.status not in _ELSEWHERE:
                return answer
        if answer is not None:
            return answer
        raise failure or BadGateway("LOCAL_LLM_BASE_URL names no server.")

    def _order(self) -> list[int]:
        """Each server once, in turn; those that failed lately come last."""
        first = next(self._turn)
        numbers = [(first + step) % len(self._servers) for step in range(len(self._servers))]
        lately = time.monotonic() - _COOL_DOWN
        return sorted(numbers, key=lambda number: self._down_since.get(number, lately) > lately)


def _normal(response: ApiResponse, shape: Any) -> ApiResponse:
    body: Mapping[str, Any] = json.loads(response.body) if response.body else {}  # type: ignore[arg-type]
    kept = _returned(response)
    if response.status >= 400:
        return ApiResponse.from_json(normal_error(body, response.status), response.status, kept)
    return ApiResponse.from_json(shape(body), response.status, kept)


def _complete(body: Mapping[str, Any], asked: ChatRequest, predicted: bool) -> dict[str, Any]:
    """Raises `BadGateway` for fewer answers than asked for, or one that broke its schema."""
    completion = normal_completion(body, predicted)
    if len(completion["choices"]) != asked.n:
        raise fewer_than(asked.n)
    for choice in completion["choices"]:
        if choice["finish_reason"] == "stop":
            breach.check_answer(asked, choice["message"]["content"] or "")
    return completion


def _headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Without our request's id: a turn may be several requests to the server, vLLM names its work
    by that header, and llama-cpp-python takes nothing there but a UUID (400 without a word)."""
    return {name: value for name, value in headers.items() if name != "x-request-id"}


def _checked(asked: ChatRequest) -> ChatRequest:
    """Refuses schemas that cannot be enforced here either, each server being lax in its own way,
    and takes what cannot be enforced out of those that need not be."""
    if find_spec("llguidance") is None:
        return asked
    asked = enforceable(asked)
    constraint(asked)
    return asked


def _about_tools(declined: Declined) -> ApiResponse:
    """A refusal of what was made of the tools, in words that name them."""
    error = declined.said["error"]
    if error["param"] == "response_format":
        error = {**error, "param": "tools"}
    return ApiResponse.from_json(
        {"error": error}, declined.response.status, _returned(declined.response)
    )


def _returned(response: ApiResponse) -> dict[str, str]:
    return {k: v for k, v in response.headers.items() if k in {"retry-after", "x-request-id"}}


def _for(settings: Settings, url: str) -> Settings:
    """The settings of a hosted provider that points at one of our own servers."""
    return settings.model_copy(
        update={
            "openai_base_url": url,
            "openai_api_key": settings.local_llm_api_key or _UNUSED_KEY,
            "openai_org_id": None,
            "openai_project_id": None,
        }
    )


def build(settings: Settings) -> Remote:
    """The servers are looked at when the first request needs them, not at start."""
    return Remote(settings)
