"""The list of models shows what either side can list; one side's trouble hides nothing else."""

from __future__ import annotations

import json

import pytest

from provider.base import ApiRequest, ApiResponse
from provider.errors import ApiError, ModelNotFound, Unauthenticated, Unreachable, UpstreamTimeout
from provider.factory import build
from provider.routes import Routes
from provider.settings import Settings
from tests.standin import serve

GONE = Unreachable("The server at http://x could not be reached.")


class Side:
    """Lists models, answers for each, or fails."""

    def __init__(self, *models: str, fails: ApiError | ApiResponse | None = None) -> None:
        self._models, self._fails = models, fails

    async def answer(self, request: ApiRequest) -> ApiResponse:
        if isinstance(self._fails, ApiError):
            raise self._fails
        if self._fails is not None:
            return self._fails
        listed = [{"id": name, "object": "model"} for name in self._models]
        wanted = request.path.removeprefix("/v1/models").removeprefix("/")
        if not wanted:
            return ApiResponse.from_json({"object": "list", "data": listed})
        if wanted not in self._models:
            raise ModelNotFound.of(wanted)
        return ApiResponse.from_json({"id": wanted, "object": "model"})

    async def aclose(self) -> None:
        return None


async def listed(llm: Side, embedding: Side) -> tuple[list[str], str | None]:
    response = await Routes(llm, embedding).answer(ApiRequest("GET", "/v1/models"))
    ids = [model["id"] for model in json.loads(await response.read())["data"]]
    return ids, response.headers.get("x-sllm-not-listed")


async def test_both_sides_are_listed_once() -> None:
    assert await listed(Side("a", "b"), Side("b", "c")) == (["a", "b", "c"], None)


@pytest.mark.parametrize(
    "trouble",
    [
        GONE,
        UpstreamTimeout("late"),
        Unauthenticated("no key"),
        ApiResponse.from_json({"error": {"message": "down"}}, 503),
        ApiResponse.from_json({"data": None}),
    ],
)
async def test_an_embedding_side_in_trouble_hides_no_model(trouble: ApiError | ApiResponse) -> None:
    assert await listed(Side("mine"), Side(fails=trouble)) == (["mine"], "embedding")


async def test_an_llm_that_cannot_be_reached_hides_no_embedding_model() -> None:
    assert await listed(Side(fails=GONE), Side("e")) == (["e"], "llm")


async def test_a_wrong_key_of_the_llms_is_told() -> None:
    with pytest.raises(Unauthenticated):
        await listed(Side(fails=Unauthenticated("wrong")), Side("e"))


async def test_where_neither_lists_the_llms_error_is_told() -> None:
    with pytest.raises(Unreachable):
        await listed(Side(fails=GONE), Side(fails=UpstreamTimeout("late")))


async def test_one_model_is_found_on_either_side() -> None:
    async def found(llm: Side, embedding: Side) -> int:
        return (await Routes(llm, embedding).answer(ApiRequest("GET", "/v1/models/e"))).status

    assert await found(Side("m"), Side("e")) == 200
    assert await found(Side(fails=GONE), Side("e")) == 200
    with pytest.raises(Unreachable):
        await found(Side(fails=GONE), Side("other"))
    with pytest.raises(ModelNotFound):
        await found(Side("m"), Side("other"))


async def test_a_local_llm_is_listed_while_the_hosted_embeddings_cannot_be_reached() -> None:
    with serve() as local:
        provider = build(
            Settings(
                _env_file=None,
                llm_provider="local",
                local_llm_base_url=[local.base_url],
                local_llm_api_key=local.key,
                embedding_provider="openai",
                openai_base_url="http://127.0.0.1:9/v1",
                openai_api_key="sk-none",
            )
        )
        response = await provider.answer(ApiRequest("GET", "/v1/models"))
        assert response.status == 200
        assert response.headers["x-sllm-not-listed"] == "embedding"
        assert json.loads(await response.read())["data"]
        await provider.aclose()
