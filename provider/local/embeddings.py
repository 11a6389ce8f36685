"""POST /v1/embeddings, answered by the embedding model in this process."""

from __future__ import annotations

from provider.base import ApiRequest, ApiResponse
from provider.local import cl100k
from provider.local.embedding import Embedding
from provider.local.names import Names
from provider.protocol.embeddings import check_dimensions, parse, response
from provider.protocol.inputs import Input


async def answer(request: ApiRequest, embedding: Embedding, names: Names) -> ApiResponse:
    """Vectors in the order of the inputs, each as if it had been asked for alone."""
    asked = parse(request.json)
    model = names.embed(asked.model)
    check_dimensions(asked, model, embedding.embedder.dimensions)
    texts = [_text(item, f"input[{index}]", embedding) for index, item in enumerate(asked.inputs)]
    rows, tokens = await embedding.rows(texts)
    headers = {"x-ignored-params": ", ".join(asked.ignored)} if asked.ignored else {}
    return ApiResponse.from_json(response(asked, model, rows, tokens), headers=headers)


def _text(item: Input, path: str, embedding: Embedding) -> str:
    if isinstance(item, str):
        return item
    if embedding.encoding is None:
        raise cl100k.refusal(path)
    return embedding.encoding.text(item, path)
