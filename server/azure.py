"""Azure OpenAI's addresses: the same API under other paths, with the key in another header.

`/openai/deployments/NAME/chat/completions?api-version=...` (also `/completions`, `/embeddings`) is
the path under /v1 with NAME as the model, whatever the body calls it, as on Azure.
`/openai/v1/...` is `/v1/...`, and so is `/openai/responses...`, whose model is the body's.
https://learn.microsoft.com/azure/ai-foundry/openai/reference
"""

from __future__ import annotations

import json
import re
from urllib.parse import parse_qsl, unquote, urlencode

from starlette.types import ASGIApp, Receive, Scope, Send

DEPLOYMENT = "sllm.deployment"
"""Where a request's scope has the name of the deployment that its path named."""

_PATH = re.compile(
    rb"/openai/(?:deployments/([^/]+)/(chat/completions|completions|embeddings)|(?:v1/(?=.)|(?=responses))(.+))"
)


class AzurePaths:
    """Pure ASGI middleware, outside of everything that reads a path or a header."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith("/openai/"):
            scope = _translated(scope)
        await self._app(scope, receive, send)


def with_model(body: bytes, deployment: str) -> bytes:
    """The body with the deployment as its model; one that is no JSON object is left as it is."""
    try:
        stated = json.loads(body)
    except (ValueError, RecursionError):
        return body
    if not isinstance(stated, dict):
        return body
    return json.dumps({**stated, "model": deployment}).encode()


def _translated(scope: Scope) -> Scope:
    match = _PATH.fullmatch(scope.get("raw_path") or scope["path"].encode())
    if match is None:
        return scope
    deployment, deployed, other = match.groups()
    path = b"/v1/" + (deployed or other)
    translated = {**scope, "path": unquote(path.decode("latin-1")), "raw_path": path}
    if deployment is not None:
        translated[DEPLOYMENT] = unquote(deployment.decode("latin-1"))
    query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    kept = [(name, value) for name, value in query if name != "api-version"]
    return {
        **translated,
        "query_string": urlencode(kept).encode(),
        "headers": [_header(name, value) for name, value in scope["headers"]],
    }


def _header(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    return (b"authorization", b"Bearer " + value) if name == b"api-key" else (name, value)
