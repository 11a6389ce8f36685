"""OpenAI's refusals, in its own words (https://platform.openai.com/docs/guides/error-codes)."""

from __future__ import annotations

import json
from typing import Any

BAD_JSON = (
    "We could not parse the JSON body of your request. (HINT: This likely means you aren't using "
    "your HTTP library correctly. The OpenAI API expects a JSON payload, but what was sent was "
    "not valid JSON. If you have trouble figuring out how to fix this, please contact us through "
    "our help center at help.openai.com.)"
)
NO_KEY = (
    "You didn't provide an API key. You need to provide your API key in an Authorization header "
    "using Bearer auth (i.e. Authorization: Bearer YOUR_KEY), or as the password field (with "
    "blank username) if you're accessing the API from your browser and are prompted for a "
    "username and password. You can obtain an API key from "
    "https://platform.openai.com/account/api-keys."
)


class Refusal(Exception):
    """A request that OpenAI would answer with an error status."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        type: str | None = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.error = {"message": message, "type": type, "param": param, "code": code}

    def body(self) -> bytes:
        return error_body(self.error)


def error_body(error: dict[str, Any]) -> bytes:
    """The body as OpenAI writes it: indented by four, with a final newline."""
    return (json.dumps({"error": error}, indent=4) + "\n").encode()


def wrong_key(key: str) -> Refusal:
    shown = key if len(key) < 9 else f"{key[:8]}{'*' * max(len(key) - 12, 4)}{key[-4:]}"
    return Refusal(
        f"Incorrect API key provided: {shown}. You can find your API key at "
        "https://platform.openai.com/account/api-keys.",
        status=401,
        code="invalid_api_key",
    )


def unknown_url(method: str, path: str) -> Refusal:
    return Refusal(f"Invalid URL ({method} {path})", status=404)


def wrong_method(method: str, path: str) -> Refusal:
    return Refusal(
        f"Not allowed to {method} on {path}. (HINT: Perhaps you meant to use a different HTTP "
        "method?)",
        status=405,
        code="method_not_supported",
    )
