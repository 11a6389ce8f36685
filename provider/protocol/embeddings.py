"""Embedding requests as frozen data, and their answers."""

from __future__ import annotations

import base64
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from provider.errors import InvalidRequest
from provider.protocol.inputs import Input, inputs
from provider.protocol.parameters import EMBEDDINGS

MAX_TOKENS = 300_000
"""Tokens that one request may have, over all its inputs (OpenAI's limit)."""


@dataclass(frozen=True, slots=True)
class EmbeddingRequest:
    """`ignored` are the paths of harmless fields that were sent."""

    model: str
    inputs: tuple[Input, ...]
    dimensions: int | None = None
    encoding_format: Literal["float", "base64"] = "float"
    ignored: tuple[str, ...] = ()


def parse(body: Mapping[str, Any]) -> EmbeddingRequest:
    """The request that `body` asks for. Raises `InvalidRequest` naming the parameter."""
    ignored: list[str] = []
    EMBEDDINGS.check(body, "", ignored.append)
    return EmbeddingRequest(
        model=body["model"],
        inputs=inputs(body["input"]),
        dimensions=body.get("dimensions"),
        encoding_format=body.get("encoding_format") or "float",
        ignored=tuple(ignored),
    )


def check_dimensions(request: EmbeddingRequest, model: str, dimensions: int) -> None:
    """Raises `InvalidRequest` for a width that is not the space's own."""
    if request.dimensions in (None, dimensions):
        return
    raise InvalidRequest(
        f"Invalid 'dimensions': {model} embeds into a space of {dimensions} dimensions and was not "
        f"trained to be cut to {request.dimensions}; vectors cut from it, or of another model with "
        f"that width, are not comparable with one another. Leave 'dimensions' out (or send "
        f"{dimensions}) and store the vectors in a column of that width, or set "
        f"EMBEDDING_PROVIDER=openai for the space that your {request.dimensions}-dimension vectors "
        "belong to.",
        param="dimensions",
        code="invalid_value",
    )


def check_total(counts: Sequence[int]) -> None:
    """Raises `InvalidRequest` for too many tokens over all inputs."""
    total = sum(counts)
    if total > MAX_TOKENS:
        raise InvalidRequest(
            f"Invalid 'input': requested {total} tokens, max {MAX_TOKENS} tokens per request. Send "
            "fewer inputs at a time.",
            param="input",
            code="max_tokens_per_request",
        )


def response(
    request: EmbeddingRequest, model: str, rows: Sequence[bytes], tokens: int
) -> dict[str, Any]:
    """CreateEmbeddingResponse; `rows` are little-endian float32, in the order of the inputs."""
    encode = _ENCODERS[request.encoding_format]
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": encode(row)}
            for index, row in enumerate(rows)
        ],
        "model": model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def _floats(row: bytes) -> list[float]:
    return list(struct.unpack(f"<{len(row) // 4}f", row))


def _base64(row: bytes) -> str:
    return base64.b64encode(row).decode("ascii")


_ENCODERS = {"float": _floats, "base64": _base64}
