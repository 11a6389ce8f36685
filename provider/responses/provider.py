"""`Responses`: answers /v1/responses with what the provider that it holds answers in a chat."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from provider.base import ApiRequest, ApiResponse, Holder, Provider
from provider.errors import InvalidRequest, MethodNotAllowed, NotFound
from provider.protocol import sse
from provider.protocol.responses import objects
from provider.protocol.responses.chat import as_said
from provider.protocol.responses.listing import check_retrieve, item_page
from provider.protocol.responses.objects import Head
from provider.protocol.responses.request import Item, ResponsesRequest, parse, parse_count
from provider.responses.asking import Asker, conversation
from provider.responses.store import Kept, Store
from provider.responses.stream import ResponseStream

PATH = "/v1/responses"
_INLINE = 16_384
"""Bytes of a body that is read on the event loop; a longer one is read in a thread."""
IGNORED = "x-ignored-params"
_SPOKEN = frozenset({IGNORED, "x-portability"})
"""Headers that speak of the request's parameters."""
_ONE_TOKEN: dict[str, Any] = {"max_completion_tokens": 1, "temperature": 0}


class Responses(Holder):
    """A provider that holds one which answers chat requests; `store` is where responses are kept.

    Every other path goes on.
    """

    def __init__(self, inner: Provider, store: Store) -> None:
        super().__init__(inner)
        self.store = store

    async def answer(self, request: ApiRequest) -> ApiResponse:
        """Raises `InvalidRequest`, `NotFound` and `MethodNotAllowed`, and what the held provider
        raises, in terms of this API."""
        if request.path != PATH and not request.path.startswith(f"{PATH}/"):
            return await self._inner.answer(request)
        place = request.path.removeprefix(PATH).strip("/").split("/")
        methods, names = _route(place)
        answer = methods.get(request.method)
        if answer is None:
            raise _no_such(request, methods)
        return await answer(self, request, *names)

    async def _create(self, request: ApiRequest) -> ApiResponse:
        asked, items = await self._read(request, parse)
        head = Head(asked, int(time.time()))
        answer = await Asker(self._inner, request, asked).ask(items)
        if answer.status >= 400:
            return answer
        headers = _headers(answer, asked)
        if not isinstance(answer.body, bytes):
            stream = ResponseStream(answer.body, head, self._keeper(request, asked, items))
            return ApiResponse(200, {**headers, **sse.HEADERS}, stream)
        chat = json.loads(answer.body)
        choice = chat["choices"][0]
        response = head.ended(
            chat["model"],
            objects.output_of(choice),
            choice["finish_reason"],
            chat.get("usage"),
            int(time.time()),
        )
        self._keeper(request, asked, items)(response)
        return ApiResponse.from_json(response, headers=headers)

    def _keeper(
        self, request: ApiRequest, asked: ResponsesRequest, items: Sequence[Item]
    ) -> Callable[[dict[str, Any]], None]:
        def keep(response: dict[str, Any]) -> None:
            if asked.store:
                kept = Kept(response, tuple(items))
                response["store"] = self.store.keep(_caller(request), kept)

        return keep

    async def _count(self, request: ApiRequest) -> ApiResponse:
        """Exact, because the prompt is read as for an answer, of which one token is made; the
        answer that may follow finds it in the cache."""
        asked, items = await self._read(request, parse_count)
        answer = await Asker(self._inner, request, asked).ask(items, **_ONE_TOKEN)
        if answer.status >= 400:
            return answer
        usage = json.loads(await answer.read())["usage"]
        counted = {"object": "response.input_tokens", "input_tokens": usage["prompt_tokens"]}
        return ApiResponse.from_json(counted, headers=_headers(answer, asked))

    async def _read(
        self, request: ApiRequest, parse: Callable[[Mapping[str, Any]], ResponsesRequest]
    ) -> tuple[ResponsesRequest, tuple[Item, ...]]:
        def read() -> tuple[ResponsesRequest, tuple[Item, ...]]:
            asked = parse(request.json)
            return asked, conversation(asked, self.store, _caller(request))

        long = len(request.body) > _INLINE
        return await asyncio.to_thread(read) if long else read()

    async def _retrieve(self, request: ApiRequest, id: str) -> ApiResponse:
        check_retrieve(request.query)
        return ApiResponse.from_json(self._kept(request, id).response)

    async def _delete(self, request: ApiRequest, id: str) -> ApiResponse:
        if not self.store.delete(_caller(request), id):
            raise _not_found(id)
        return ApiResponse.from_json({"id": id, "object": "response", "deleted": True})

    async def _cancel(self, request: ApiRequest, id: str) -> ApiResponse:
        self._kept(request, id)
        raise InvalidRequest("Cannot cancel a synchronous response.")

    async def _items(self, request: ApiRequest, id: str) -> ApiResponse:
        return ApiResponse.from_json(item_page(self._kept(request, id).input, request.query))

    async def _compact(self, request: ApiRequest) -> ApiResponse:
        raise NotFound(
            f"Invalid URL ({request.method} {request.path}). Nothing is compacted here; "
            "'truncation: auto' leaves out what does not fit."
        )

    def _kept(self, request: ApiRequest, id: str) -> Kept:
        kept = self.store.get(_caller(request), id)
        if kept is None:
            raise _not_found(id)
        return kept


Answer = Callable[..., Awaitable[ApiResponse]]
"""Called with the `Responses`, the request, and the id in its path where there is one."""
Methods = Mapping[str, Answer]

_FIXED: dict[str, Methods] = {
    "": {"POST": Responses._create},
    "input_tokens": {"POST": Responses._count},
    "compact": {"POST": Responses._compact},
}
_OF_ONE: dict[str, Methods] = {
    "": {"GET": Responses._retrieve, "DELETE": Responses._delete},
    "cancel": {"POST": Responses._cancel},
    "input_items": {"GET": Responses._items},
}


def _route(place: Sequence[str]) -> tuple[Methods, Sequence[str]]:
    """What answers a place below the path, by method, and the id in it."""
    if len(place) == 1 and place[0] in _FIXED:
        return _FIXED[place[0]], ()
    action = place[1] if len(place) > 1 else ""
    known = len(place) <= 2 and (len(place) == 1 or action != "")
    return (_OF_ONE.get(action, {}) if known else {}), (place[0],)


def _no_such(request: ApiRequest, methods: Methods) -> NotFound | MethodNotAllowed:
    if not methods:
        return NotFound(f"Invalid URL ({request.method} {request.path})")
    return MethodNotAllowed(
        f"Not allowed to {request.method} on {request.path} (HINT: Perhaps you meant to use a "
        "different HTTP method?)",
        headers={"allow": ", ".join(methods)},
    )


def _caller(request: ApiRequest) -> Any:
    """Whose responses these are: the server's key, or this process's own."""
    return request.context.get("caller")


def _not_found(id: str) -> NotFound:
    return NotFound(f"Response with id '{id}' not found.")


def _headers(answer: ApiResponse, asked: ResponsesRequest) -> dict[str, str]:
    """The chat answer's own headers, in terms of this API."""
    kept = {
        name: as_said(value) if name in _SPOKEN else value
        for name, value in answer.headers.items()
        if name not in ("content-type", "content-length", *sse.HEADERS)
    }
    ignored = [*asked.ignored, *filter(None, [kept.pop(IGNORED, "")])]
    return {**kept, IGNORED: ", ".join(ignored)} if ignored else kept
