"""`truncation: auto`: what does not fit is left out from the beginning, in whole turns."""

from __future__ import annotations

from typing import Any

import pytest

from provider.base import ApiRequest, ApiResponse
from provider.errors import ContextTooLong
from tests.responses.asking import ask, over, response_of
from tests.switching.parts import Named, completion


class Narrow:
    """A model with a context of `room` letters, 10 of them for the answer."""

    def __init__(self, room: int, *, raises: bool) -> None:
        self.room, self.raises = room, raises
        self.asked: list[list[dict[str, Any]]] = []

    async def answer(self, request: ApiRequest) -> ApiResponse:
        messages = request.json["messages"]
        self.asked.append(messages)
        letters = sum(len(message["content"] or "") for message in messages)
        if letters + 10 <= self.room:
            return ApiResponse.from_json(completion("ok"))
        error = ContextTooLong.of(self.room, letters, 10)
        if self.raises:
            raise error
        return ApiResponse.from_json(error.body(), 400)

    async def aclose(self) -> None:
        """Holds nothing."""


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


LONG = [user(str(number % 10) * 20) for number in range(30)]


@pytest.mark.parametrize("raises", [True, False])
async def test_the_newest_that_fit_are_read(raises: bool) -> None:
    narrow = Narrow(110, raises=raises)
    answer = await over(narrow).answer(ask(LONG, truncation="auto", instructions="Be brief."))
    response = await response_of(answer)
    assert response["truncation"] == "auto"
    first, *rest = [message["content"] for message in narrow.asked[-1]]
    assert first == "Be brief."
    assert rest == [item["content"] for item in LONG[-len(rest) :]]
    assert len(rest) == 4
    assert len(narrow.asked) < 15  # not one try for each turn


@pytest.mark.parametrize("more", [{}, {"truncation": "disabled"}])
async def test_nothing_is_left_out_unasked(more: dict[str, Any]) -> None:
    narrow = Narrow(110, raises=True)
    with pytest.raises(ContextTooLong) as refused:
        await over(narrow).answer(ask(LONG, **more))
    assert refused.value.param == "input"
    assert len(narrow.asked) == 1


async def test_the_newest_turn_alone_may_be_too_long() -> None:
    narrow = Narrow(110, raises=False)
    answer = await over(narrow).answer(ask([*LONG, user("x" * 200)], truncation="auto"))
    assert answer.status == 400
    assert [message["content"] for message in narrow.asked[-1]] == ["x" * 200]


async def test_instructions_among_the_items_stay() -> None:
    narrow = Narrow(60, raises=True)
    rules = {"role": "developer", "content": "Rules."}
    await over(narrow).answer(ask([rules, *LONG], truncation="auto"))
    said = [message["content"] for message in narrow.asked[-1]]
    assert said == ["Rules.", *(item["content"] for item in LONG[-2:])]


async def test_a_call_goes_with_its_output() -> None:
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
    output = {"type": "function_call_output", "call_id": "c", "output": "o" * 40}
    narrow = Narrow(60, raises=True)
    await over(narrow).answer(ask([call, output, *LONG[:2]], truncation="auto"))
    assert [message["role"] for message in narrow.asked[-1]] == ["user", "user"]


async def test_a_very_long_conversation_takes_few_tries() -> None:
    narrow = Narrow(110, raises=True)
    await over(narrow).answer(ask([user("x" * 20)] * 5000, truncation="auto"))
    assert len(narrow.asked[-1]) >= 3
    assert len(narrow.asked) < 20


async def test_what_fits_is_asked_once() -> None:
    inner = Named("n")
    await over(inner).answer(ask(LONG, truncation="auto"))
    assert len(inner.requests) == 1
