"""What is kept: whose it is, how much of it, and how it is asked for."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provider.base import ApiRequest, ApiResponse
from provider.errors import ApiError, InvalidRequest, MethodNotAllowed, NotFound
from provider.responses import Responses
from provider.responses.store import Kept, Store
from tests.contract.official import check
from tests.responses.asking import PATH, ask, over, request, response_of
from tests.switching.parts import Named


async def made(one: Responses, said: Any = "안녕", **more: Any) -> dict[str, Any]:
    return await response_of(await one.answer(ask(said, **more)))


async def refused(one: Responses, asked: ApiRequest) -> ApiError:
    with pytest.raises(ApiError) as raised:
        await one.answer(asked)
    return raised.value


async def test_another_callers_response_does_not_exist() -> None:
    one = over(Named("n"))
    response = await made(one, caller="key-1")
    [item] = response["output"]
    place = f"{PATH}/{response['id']}"
    for asked in (
        request("GET", place, caller="key-2"),
        request("DELETE", place, caller="key-2"),
        request("POST", f"{place}/cancel", caller="key-2"),
        request("GET", f"{place}/input_items", caller="key-2"),
        ask(caller="key-2", previous_response_id=response["id"]),
        ask([{"type": "item_reference", "id": item["id"]}], caller="key-2"),
    ):
        assert "not found" in (await refused(one, asked)).message
    mine = await response_of(await one.answer(request("GET", place, caller="key-1")))
    assert mine == response


async def test_the_longest_unused_makes_room() -> None:
    one = over(Named("n"), most=2)
    first, second = await made(one), await made(one)
    await one.answer(request("GET", f"{PATH}/{first['id']}"))
    await made(one)
    assert isinstance(await one.answer(request("GET", f"{PATH}/{first['id']}")), ApiResponse)
    error = await refused(one, ask(previous_response_id=second["id"]))
    assert error.code == "previous_response_not_found"


async def test_what_is_too_large_to_keep_is_answered_all_the_same() -> None:
    one = over(Named("n"), most_bytes=4000)
    small = await made(one)
    large = await made(one, "x" * 5000)
    assert isinstance(await one.answer(request("GET", f"{PATH}/{small['id']}")), ApiResponse)
    assert isinstance(await refused(one, request("GET", f"{PATH}/{large['id']}")), NotFound)
    assert large["store"] is False


async def test_a_store_of_nothing_keeps_nothing() -> None:
    one = over(Named("n"), most=0)
    response = await made(one)
    assert response["store"] is False
    assert isinstance(await refused(one, request("GET", f"{PATH}/{response['id']}")), NotFound)


ITEMS = st.lists(st.tuples(st.sampled_from("abcdef"), st.text(max_size=20)), max_size=3)
DONE = st.lists(
    st.one_of(
        st.tuples(st.just("keep"), st.sampled_from("ab"), st.sampled_from("123456"), ITEMS),
        st.tuples(st.just("get"), st.sampled_from("ab"), st.sampled_from("123456"), st.just([])),
        st.tuples(st.just("drop"), st.sampled_from("ab"), st.sampled_from("123456"), st.just([])),
    ),
    max_size=30,
)


@given(DONE, st.integers(0, 4), st.integers(1, 600))
def test_bounds_hold_and_items_live_as_long_as_their_responses(
    done: list[Any], most: int, most_bytes: int
) -> None:
    store = Store(most, most_bytes)
    for what, caller, id, said in done:
        if what == "keep":
            items = tuple({"id": name, "text": text} for name, text in said)
            store.keep(caller, Kept({"id": id, "output": []}, items))
        elif what == "get":
            store.get(caller, id)
        else:
            was = store.get(caller, id)
            assert store.delete(caller, id) == (was is not None)
        kept = {(c, i): store.get(c, i) for c in "ab" for i in "123456"}
        there = {key: one for key, one in kept.items() if one is not None}
        assert len(store) == len(there) <= most
        assert store.size == sum(one.size for one in there.values()) <= most_bytes
        for caller_ in "ab":
            alive = {i["id"] for (c, _), one in there.items() if c == caller_ for i in one.input}
            assert {name for name in "abcdef" if store.item(caller_, name)} == alive


async def listed(one: Responses, id: str, query: str) -> dict[str, Any]:
    answer = await one.answer(request("GET", f"{PATH}/{id}/input_items", query=query))
    page: dict[str, Any] = json.loads(await answer.read())
    check("input_items", page)
    return page


async def test_pages_of_input_items() -> None:
    one = over(Named("n"))
    said = [{"role": "user", "content": str(number)} for number in range(25)]
    response = await made(one, said)

    def texts(page: dict[str, Any]) -> list[str]:
        return [item["content"][0]["text"] for item in page["data"]]

    first = await listed(one, response["id"], "")
    assert texts(first) == [str(number) for number in range(24, 4, -1)]
    assert first["has_more"] is True
    rest = await listed(one, response["id"], f"after={first['last_id']}&limit=100")
    assert texts(rest) == ["4", "3", "2", "1", "0"]
    assert rest["has_more"] is False
    forward = await listed(
        one, response["id"], "order=asc&limit=2&include[]=file_search_call.results"
    )
    assert texts(forward) == ["0", "1"]
    nothing = await listed(one, response["id"], f"after={rest['last_id']}")
    assert (nothing["data"], nothing["first_id"]) == ([], None)


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=ten", "limit"),
        ("limit=%D9%A3", "limit"),
        ("order=up", "order"),
        ("after=msg_none", "after"),
        ("before=x", "before"),
        ("include=smell", "include"),
    ],
)
async def test_pages_that_there_are_not(query: str, param: str) -> None:
    one = over(Named("n"))
    response = await made(one)
    asked = request("GET", f"{PATH}/{response['id']}/input_items", query=query)
    assert (await refused(one, asked)).param == param


@pytest.mark.parametrize(
    ("query", "param"), [("stream=true", "stream"), ("stream=1", "stream"), ("x=y", "x")]
)
async def test_what_is_kept_is_given_whole(query: str, param: str) -> None:
    one = over(Named("n"))
    response = await made(one)
    asked = request("GET", f"{PATH}/{response['id']}", query=query)
    assert (await refused(one, asked)).param == param
    fine = request("GET", f"{PATH}/{response['id']}", query="stream=false&starting_after=3")
    assert await response_of(await one.answer(fine)) == response


@pytest.mark.parametrize(
    ("method", "path", "kind"),
    [
        ("GET", PATH, MethodNotAllowed),
        ("PUT", f"{PATH}/resp_1", MethodNotAllowed),
        ("POST", f"{PATH}/resp_1", MethodNotAllowed),
        ("GET", f"{PATH}/resp_1/cancel", MethodNotAllowed),
        ("DELETE", f"{PATH}/resp_1/input_items", MethodNotAllowed),
        ("GET", f"{PATH}/resp_1/smell", NotFound),
        ("GET", f"{PATH}/resp_1/input_items/x", NotFound),
        ("GET", f"{PATH}/", MethodNotAllowed),
        ("POST", f"{PATH}/compact", NotFound),
        ("GET", f"{PATH}/input_tokens", MethodNotAllowed),
    ],
)
async def test_paths_and_methods(method: str, path: str, kind: type[ApiError]) -> None:
    error = await refused(over(Named("n")), request(method, path, input="x"))
    assert type(error) is kind


async def test_other_paths_go_on() -> None:
    inner = Named("n")
    asked = ApiRequest("POST", "/v1/responsesque", body=b"{}")
    await over(inner).answer(asked)
    assert inner.requests == [asked]


async def test_many_at_once_keep_their_own() -> None:
    one = over(Named("n", pause=0.001), most=200)
    answers = await asyncio.gather(*(made(one, str(n), caller=f"key-{n % 3}") for n in range(60)))
    assert len({answer["id"] for answer in answers}) == 60
    for number, answer in enumerate(answers):
        asked = request("GET", f"{PATH}/{answer['id']}/input_items", caller=f"key-{number % 3}")
        page = json.loads(await (await one.answer(asked)).read())
        assert page["data"][0]["content"][0]["text"] == str(number)


async def test_an_empty_turn_goes_on_from_what_was() -> None:
    inner = Named("n")
    one = over(inner)
    first = await made(one)
    await made(one, [], previous_response_id=first["id"])
    assert [m["role"] for m in inner.requests[-1].json["messages"]] == ["user", "assistant"]
    error = await refused(one, ask([]))
    assert (type(error), error.param) == (InvalidRequest, None)
