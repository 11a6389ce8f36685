"""From a recorded request to the reply that OpenAI would give; no I/O."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from tests.standin import chat_rules, embeddings, models
from tests.standin.chat import Completion
from tests.standin.errors import BAD_JSON, NO_KEY, Refusal, unknown_url, wrong_key, wrong_method
from tests.standin.record import Recorded

Headers = list[tuple[str, str]]
_JSON = ("content-type", "application/json")
_STREAM = ("content-type", "text/event-stream; charset=utf-8")


@dataclass
class Reply:
    """Status, headers, and either a body or the events of a stream."""

    status: int
    headers: Headers
    body: bytes = b""
    events: Iterator[bytes] | None = None
    streams: bool = field(init=False)

    def __post_init__(self) -> None:
        self.streams = self.events is not None

    def whole(self) -> bytes:
        return self.body if self.events is None else b"".join(self.events)


def reply(request: Recorded, key: str) -> Reply:
    """The right answer, or the right refusal, with OpenAI's headers."""
    started = time.perf_counter()
    try:
        made = _route(request)(request, key)
    except Refusal as refusal:
        made = Reply(refusal.status, [_JSON], refusal.body())
    made.headers += _headers(request, started)
    return made


def _headers(request: Recorded, started: float) -> Headers:
    spent = max(1, int((time.perf_counter() - started) * 1000))
    return [
        ("openai-organization", "org-standin"),
        ("openai-processing-ms", str(spent)),
        ("openai-version", "2020-10-01"),
        ("x-ratelimit-limit-requests", "10000"),
        ("x-ratelimit-limit-tokens", "200000"),
        ("x-ratelimit-remaining-requests", "9999"),
        ("x-ratelimit-remaining-tokens", "199900"),
        ("x-ratelimit-reset-requests", "8.64s"),
        ("x-ratelimit-reset-tokens", "30ms"),
        ("x-request-id", f"req_{secrets.token_hex(16)}"),
        ("strict-transport-security", "max-age=31536000; includeSubDomains; preload"),
    ]


Handler = Callable[[Recorded, str], Reply]


def _route(request: Recorded) -> Handler:
    path = request.path
    table: dict[str, dict[str, Handler]] = {
        "/v1/chat/completions": {"POST": _chat},
        "/v1/embeddings": {"POST": _embeddings},
        "/v1/models": {"GET": _models},
    }
    methods = table.get(path)
    if methods is None and path.startswith("/v1/models/") and len(path) > len("/v1/models/"):
        methods = {"GET": _model}
    if methods is None:
        raise unknown_url(request.method, path)
    if request.method not in methods:
        raise wrong_method(request.method, path)
    return methods[request.method]


def _authorize(request: Recorded, key: str) -> None:
    given = request.headers.get("authorization", "")
    scheme, _, token = given.partition(" ")
    if not given or scheme.lower() != "bearer" or not token:
        raise Refusal(NO_KEY, status=401)
    if token != key:
        raise wrong_key(token)


def _body(request: Recorded) -> dict[str, Any]:
    kind = request.headers.get("content-type", "")
    if kind.split(";")[0].strip().lower() != "application/json":
        raise Refusal(
            f"Unsupported content type: '{kind}'. This API method only accepts "
            "'application/json' requests, but you specified the header 'Content-Type: "
            f"{kind}'. Please try again with a supported content type.",
            status=415,
            code="unsupported_content_type",
        )
    try:
        parsed = json.loads(request.body.decode(), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise Refusal(BAD_JSON) from error
    if not isinstance(parsed, dict):
        raise Refusal(
            "Invalid type for body: expected an object, but got another type instead.",
            code="invalid_type",
        )
    return parsed


def _no_constant(name: str) -> Any:
    raise ValueError(name)


def _json(value: Any) -> Reply:
    encoded = json.dumps(value, ensure_ascii=False, indent=2).encode()
    return Reply(200, [_JSON], encoded)


def _chat(request: Recorded, key: str) -> Reply:
    _authorize(request, key)
    body = _body(request)
    model = models.named(body, embeddings=False)
    chat_rules.check(body, model)
    completion = Completion(body, model)
    named = [("openai-model", model.snapshot)]
    if body.get("stream"):
        return Reply(200, [_STREAM, *named], events=completion.events())
    made = _json(completion.whole())
    made.headers += named
    return made


def _embeddings(request: Recorded, key: str) -> Reply:
    _authorize(request, key)
    body = _body(request)
    model = models.named(body, embeddings=True)
    embeddings.check(body, model)
    made = _json(embeddings.answer(body, model))
    made.headers.append(("openai-model", model.snapshot))
    return made


def _models(request: Recorded, key: str) -> Reply:
    _authorize(request, key)
    return _json(models.listing())


def _model(request: Recorded, key: str) -> Reply:
    _authorize(request, key)
    return _json(models.card(unquote(request.path.removeprefix("/v1/models/"))))
