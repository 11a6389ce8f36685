"""The list of models."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from tests.contract.both import all_of, settled
from tests.contract.targets import CHAT, EMBEDDING


async def test_list(client: Any) -> None:
    page = await settled(client.models.list())
    assert len({model.id for model in page.data}) == len(page.data) > 0
    assert {CHAT, EMBEDDING} <= {model.id for model in page.data}


async def test_iterating_ends(client: Any) -> None:
    page = await settled(client.models.list())
    assert [model.id for model in await all_of(page)] == [model.id for model in page.data]


async def test_retrieve(client: Any) -> None:
    for model in (await settled(client.models.list())).data:
        assert (await settled(client.models.retrieve(model.id))).id == model.id


async def test_the_model_that_answers_is_listed(client: Any, target: Any) -> None:
    from tests.contract.requests import ask

    answer = await settled(client.chat.completions.create(**ask(max_tokens=1)))
    listed = {model.id for model in (await settled(client.models.list())).data}
    assert answer.model in listed


@pytest.mark.parametrize("name", ["gpt-9", "no/such", "한글", "a b"])
async def test_unknown(client: Any, name: str) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        await settled(client.models.retrieve(name))
    assert refused.value.code == "model_not_found"
