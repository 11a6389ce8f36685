"""Asks a running server, for `sllm models` and `sllm status`."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from typing import Any

SECONDS = 5.0
_ANOTHER = "Something answers at that address, but it is not this server."


class NoServer(Exception):
    """Nothing that speaks our API answers at the address."""


def ask(url: str, key: str | None = None) -> tuple[int, dict[str, Any]]:
    """The status and the JSON object that a GET of `url` gives. Raises `NoServer`."""
    request = _request(url, key)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=SECONDS) as response:
            return response.status, _object(response.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, _object(error.read())
    except http.client.HTTPException as error:
        raise NoServer(_ANOTHER) from error
    except OSError as error:
        raise NoServer(
            f"No server answers at {url} ({getattr(error, 'reason', error)}); "
            "start one with: sllm serve"
        ) from error


def _request(url: str, key: str | None) -> urllib.request.Request:
    if not url.startswith(("http://", "https://")) or not url.isprintable() or " " in url:
        raise NoServer(f"{url!r} is not an address; expected one such as http://127.0.0.1:8000.")
    if key and not (key.isascii() and key.isprintable()):
        raise NoServer("The key has characters that a header cannot carry; check --key.")
    headers = {"accept": "application/json"}
    if key:
        headers["authorization"] = f"Bearer {key}"
    return urllib.request.Request(url, headers=headers)


def _object(body: bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(body)
    except ValueError:
        parsed = None
    if not isinstance(parsed, dict):
        raise NoServer(_ANOTHER)
    return parsed
