"""A request's body is read once, and refused in JSON's words."""

from __future__ import annotations

import pytest

from provider.base import ApiRequest
from provider.errors import InvalidRequest


@pytest.mark.parametrize(
    ("body", "got"),
    [(b"null", "null"), (b"[1]", "an array"), (b"3", "an integer"), (b'"x"', "a string")],
)
def test_a_body_that_is_no_object_is_refused(body: bytes, got: str) -> None:
    request = ApiRequest("POST", "/v1/chat/completions", {}, body)
    with pytest.raises(InvalidRequest, match=f"must be an object, but got {got} instead"):
        _ = request.json
