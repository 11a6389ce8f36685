"""One response: its conversation, the chat request that it takes, and what came of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from provider.base import ApiRequest, ApiResponse, Provider
from provider.errors import ApiError, InvalidRequest, NotFound
from provider.protocol.responses.chat import as_said, chat_body, param_as_said
from provider.protocol.responses.objects import listed
from provider.protocol.responses.request import Item, ResponsesRequest
from provider.protocol.responses.turns import Turn, droppable, expendable, turns, without_oldest
from provider.responses.store import Store
from provider.streams import primed

CHAT = "/v1/chat/completions"
_INLINE = 500
"""Turns of a conversation that is written as a chat on the event loop."""
_TOO_LONG = "context_length_exceeded"


def conversation(request: ResponsesRequest, store: Store, caller: Any) -> tuple[Item, ...]:
    """The items of the whole conversation, each with its id: what goes before, then the input.

    Raises `InvalidRequest` for a previous response and `NotFound` for an item that is not kept.
    """
    before: tuple[Item, ...] = ()
    if request.previous is not None:
        kept = store.get(caller, request.previous)
        if kept is None:
            raise InvalidRequest(
                f"Previous response with id '{request.previous}' not found.",
                param="previous_response_id",
                code="previous_response_not_found",
            )
        before = kept.conversation
    return (*before, *(_found(item, store, caller) for item in request.input))


def _found(item: Item, store: Store, caller: Any) -> Item:
    if item["type"] != "item_reference":
        return listed(item)
    found = store.item(caller, item["id"])
    if found is None:
        raise NotFound(
            f"Item with id '{item['id']}' not found. Items are not persisted when `store` is set "
            "to false. Try again with `store` set to true, or remove this item from your input.",
            param="input",
        )
    return found


@dataclass(frozen=True)
class Asker:
    """Asks `provider` in a chat for what `request` wants; `carried` is the request as it came."""

    provider: Provider
    carried: ApiRequest
    request: ResponsesRequest

    async def ask(self, items: Sequence[Item], **more: Any) -> ApiResponse:
        """The chat answer, its first piece received; `more` are further fields of the chat request.
        Errors speak of the Responses request.

        With `truncation: auto` the oldest turns are left out until the rest fits. A try that does
        not fit costs a reading of the prompt alone, one that fits is the answer: so from few to
        many, each time as many as the last refusal's figures point to.
        """
        said = turns(items)
        most = droppable(said) if self.request.truncates else 0
        answer = await self._tried(said, more)
        left_out = 0
        while left_out < most and (message := _too_long(answer)):
            left = without_oldest(said, left_out)
            left_out = min(most, left_out + expendable(left, message))
            answer = await self._tried(without_oldest(said, left_out), more)
        return _told(answer)

    async def _tried(self, said: Sequence[Turn], more: Mapping[str, Any]) -> ApiResponse | ApiError:
        def asked() -> ApiRequest:
            body = {**chat_body(self.request, said), **more}
            return replace(self.carried, method="POST", path=CHAT, query="").with_json(body)

        long = len(said) > _INLINE  # a thread, so that other requests are not held up
        sent = await asyncio.to_thread(asked) if long else asked()
        try:
            return await primed(await self.provider.answer(sent))
        except ApiError as error:
            return error


def _too_long(answer: ApiResponse | ApiError) -> str:
    """What a refusal says that is because of the length; empty for any other answer."""
    if isinstance(answer, ApiError):
        return answer.message if answer.code == _TOO_LONG else ""
    if answer.status != 400 or not isinstance(answer.body, bytes):
        return ""
    error = json.loads(answer.body)["error"]
    return str(error["message"]) if error.get("code") == _TOO_LONG else ""


def _told(answer: ApiResponse | ApiError) -> ApiResponse:
    if isinstance(answer, ApiError):
        answer.message = as_said(answer.message)
        answer.param = param_as_said(answer.param)
        raise answer
    if answer.status < 400 or not isinstance(answer.body, bytes):
        return answer
    body = json.loads(answer.body)
    said = body["error"]
    error = {
        **said,
        "message": as_said(said["message"]),
        "param": param_as_said(said.get("param")),
    }
    return replace(answer, body=json.dumps({"error": error}, ensure_ascii=False).encode())
