"""Asks a running server, for `sllm models` and `sllm status`."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

SECONDS = 5.0


class NoServer(Exception):
    """Nothing that speaks our API answers at the address."""


def ask(url: str, key: str | None = None) -> tuple[int, dict[str, Any]]:
    """The status and the JSON object that a GET of `url` gives. Raises `NoServer`."""
    request = urllib.request.Request(url, headers={"accept": "application/json"})
    if key:
        request.add_header("authorization", f"Bearer {key}")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=SECONDS) as response:
            return response.status, _object(response.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, _object(error.read())
    except OSError as error:
        raise NoServer(
            f"No server answers at {url} ({getattr(error, 'reason', error)}); "
            "start one with: sllm serve"
        ) from error


def _object(body: bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(body)
    except ValueError:
        parsed = None
    if not isinstance(parsed, dict):
        raise NoServer("Something answers at that address, but it is not this server.")
    return parsed
