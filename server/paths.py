"""Which paths there are, and which of them are carried to the provider."""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

from starlette.types import Scope

from server.errors import invalid_url

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
EMBEDDINGS = "/v1/embeddings"
RESPONSES = "/v1/responses"
MODELS = "/v1/models"
LOAD_ADAPTER = "/v1/load_lora_adapter"
ADMIN = "/admin/providers"
UNLOAD_ADAPTER = "/v1/unload_lora_adapter"

METHODS: dict[str, tuple[str, ...]] = {
    CHAT: ("POST",),
    COMPLETIONS: ("POST",),
    RESPONSES: ("POST",),
    EMBEDDINGS: ("POST",),
    MODELS: ("GET",),
    LOAD_ADAPTER: ("POST",),
    UNLOAD_ADAPTER: ("POST",),
}

_PATH = re.compile(r"/(v1|admin)(/[A-Za-z0-9._~!$&'()*+,;=:@%-]+)+")


def carried(scope: Scope) -> str:
    """The path as the client encoded it.

    Raises `NotFound` (404) for one with an empty, `.` or `..` segment: it may mean one path to
    this server and another to the one behind it.
    """
    raw = scope.get("raw_path")
    path = raw.decode("latin-1") if raw else quote(scope["path"])
    segments = [unquote(segment) for segment in path.split("/")[1:]]
    if not _PATH.fullmatch(path) or any(segment in {"", ".", ".."} for segment in segments):
        raise invalid_url(scope["method"], path)
    return path


def allowed(path: str) -> tuple[str, ...]:
    """The methods of a path that this server documents; empty for any other."""
    if path.startswith(f"{MODELS}/"):
        return ("GET",)
    return METHODS.get(path, ())
