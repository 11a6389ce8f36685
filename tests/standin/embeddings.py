"""`/v1/embeddings`: vectors that follow from the text, so that swapped inputs are noticed.

A vector is the sum of signed feature hashes of the text's character pairs and triples plus a little
noise drawn from the whole text, cut to `dimensions` and brought to length one: texts that share
words are closer than strangers, no two texts have the same vector.
"""

from __future__ import annotations

import base64
import hashlib
import math
import struct
from functools import lru_cache
from typing import Any

from tests.standin import tokens
from tests.standin.checks import Check, integer, one_of, record, string
from tests.standin.errors import Refusal
from tests.standin.models import Model

_MOST_TOKENS = 300_000
_INVALID = (
    "'$.input' is invalid. Please check the API reference: "
    "https://platform.openai.com/docs/api-reference."
)


def _input(value: Any, path: str) -> None:
    """Text, texts, token ids or lists of them; what OpenAI refuses here it refuses in one way."""
    items = value if isinstance(value, list) else [value]
    if isinstance(value, list) and len(value) > 2048 and not _is_tokens(value):
        raise Refusal(
            "Invalid 'input': array too long. Expected an array with maximum length 2048, but "
            f"got an array with length {len(value)} instead.",
            param="input",
            code="array_above_max_length",
        )
    kinds = {"token" if _is_token(item) else type(item).__name__ for item in items}
    if not items or "" in items or [] in items or len(kinds) > 1:
        raise Refusal(_INVALID)
    for item in items:
        ids = item if isinstance(item, list) else []
        if not (
            isinstance(item, str)
            or (_is_token(item) and items is value)
            or (ids and _is_tokens(ids))
        ):
            raise Refusal(_INVALID)


def _is_token(item: Any) -> bool:
    return isinstance(item, int) and not isinstance(item, bool) and 0 <= item < 100_277


def _is_tokens(value: list[Any]) -> bool:
    return all(_is_token(item) for item in value)


_fields: dict[str, Check] = {
    "model": string(),
    "input": _input,
    "dimensions": integer(1),
    "encoding_format": one_of("float", "base64"),
    "user": string(),
}
_check = record(_fields, ["input"])

Text = str | tuple[int, ...]


def check(body: dict[str, Any], model: Model) -> None:
    _check(body, "")
    dimensions = body.get("dimensions")
    if dimensions is not None and not model.shortens:
        raise Refusal("This model does not support specifying dimensions.")
    if dimensions is not None and dimensions > model.dimensions:
        raise Refusal(
            f"Invalid value for 'dimensions' = {dimensions}. Must be less than or equal to "
            f"{model.dimensions}.",
        )
    counts = [_tokens(text) for text in texts(body["input"])]
    for counted in counts:
        if counted > model.context:
            raise Refusal(
                f"This model's maximum context length is {model.context} tokens, however you "
                f"requested {counted} tokens ({counted} in your prompt; 0 for the completion). "
                "Please reduce your prompt; or completion length.",
            )
    if sum(counts) > _MOST_TOKENS:
        raise Refusal(
            f"Requested {sum(counts)} tokens, max {_MOST_TOKENS} tokens per request",
            type="max_tokens_per_request",
            code="max_tokens_per_request",
        )


def texts(given: Any) -> list[Text]:
    """The inputs one by one; token ids as a tuple."""
    if isinstance(given, str):
        return [given]
    if given and isinstance(given[0], int):
        return [tuple(given)]
    return [item if isinstance(item, str) else tuple(item) for item in given]


def _tokens(text: Text) -> int:
    return tokens.count(text) if isinstance(text, str) else len(text)


def answer(body: dict[str, Any], model: Model) -> dict[str, Any]:
    inputs = texts(body["input"])
    dimensions = body.get("dimensions") or model.dimensions
    encoded = body.get("encoding_format") == "base64"
    used = sum(_tokens(text) for text in inputs)
    data = []
    for index, text in enumerate(inputs):
        packed = vector(text, model.id, model.dimensions, dimensions)
        shown = (
            base64.b64encode(packed).decode()
            if encoded
            else list(struct.unpack(f"<{dimensions}f", packed))
        )
        data.append({"object": "embedding", "index": index, "embedding": shown})
    return {
        "object": "list",
        "data": data,
        "model": model.snapshot,
        "usage": {"prompt_tokens": used, "total_tokens": used},
    }


@lru_cache(maxsize=4096)
def vector(text: Text, model: str, width: int, dimensions: int) -> bytes:
    """Little-endian float32 bytes of the first `dimensions` of `width`, renormalised."""
    whole = _noise(text, model, width)
    for feature in _features(text):
        place = hashlib.blake2b(f"{model} {feature}".encode(), digest_size=16).digest()
        for position, sign in zip(place[::2], place[1::2], strict=True):
            whole[(position * 6 + sign % 6) % width] += 1.0 if sign < 128 else -1.0
    cut = whole[:dimensions]
    norm = math.sqrt(sum(value * value for value in cut))
    return struct.pack(f"<{dimensions}f", *(value / norm for value in cut))


def _noise(text: Text, model: str, width: int) -> list[float]:
    drawn = hashlib.shake_256(f"{model} {text!r}".encode()).digest(width)
    return [(byte - 127.5) / 2550 for byte in drawn]


def _features(text: Text) -> list[str]:
    if isinstance(text, tuple):
        return [str(token) for token in text]
    lowered = f" {text.lower()} "
    pairs = [lowered[i : i + 2] for i in range(len(lowered) - 1)]
    triples = [lowered[i : i + 3] for i in range(len(lowered) - 2)]
    return pairs + triples
