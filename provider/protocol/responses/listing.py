"""Query parameters of what is kept: a response, and the pages of its input items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs

from provider.errors import InvalidRequest, NotFound
from provider.protocol import values
from provider.protocol.responses.parameters import Include
from provider.protocol.shapes import Integer, OneOf

Item = Mapping[str, Any]


def item_page(items: Sequence[Item], query: str) -> dict[str, Any]:
    """`items` from `after` on, at most `limit` (20), the newest first unless `order` is `asc`.

    Raises `InvalidRequest` for a parameter that is none, and `NotFound` for an unknown `after`.
    """
    asked = _asked(query, "limit", "order", "after")
    limit = _integer(asked, "limit", 20)
    Integer(1, 100).check(limit, "limit", _nowhere)
    order = asked.get("order", "desc")
    OneOf(("asc", "desc")).check(order, "order", _nowhere)
    found = list(items) if order == "asc" else list(reversed(items))
    if (after := asked.get("after")) is not None:
        found = found[_place(found, after) + 1 :]
    data = found[:limit]
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": len(found) > limit,
    }


def check_retrieve(query: str) -> None:
    """Raises `InvalidRequest` for what a kept response cannot be asked for."""
    asked = _asked(query, "stream", "starting_after", "include_obfuscation")
    stream = asked.get("stream", "false")
    OneOf(("true", "false")).check(stream, "stream", _nowhere)
    if stream == "true":
        raise values.conflict(
            "stream",
            "This response cannot be streamed: only the request that made it had its events. "
            "Leave out 'stream' to get it whole.",
            "unsupported_parameter",
        )
    if "starting_after" in asked:
        _integer(asked, "starting_after", 0)


def _asked(query: str, *known: str) -> dict[str, str]:
    """The parameters, each once; `include` is checked and says nothing about what is kept."""
    asked: dict[str, str] = {}
    for name, said in parse_qs(query, keep_blank_values=True).items():
        if name == "include" or name.startswith("include["):
            for value in said:
                Include().check(value, "include", _nowhere)
        elif name in known:
            asked[name] = said[-1]
        else:
            raise values.unknown(name)
    return asked


def _integer(asked: Mapping[str, str], name: str, default: int) -> int:
    said = asked.get(name)
    if said is None:
        return default
    if not said.isascii() or not said.removeprefix("-").isdigit() or len(said) > 18:
        raise InvalidRequest(
            f"Invalid type for '{name}': expected an integer, but got a string instead.",
            param=name,
            code="invalid_type",
        )
    return int(said)


def _place(items: Sequence[Item], id: str) -> int:
    for place, item in enumerate(items):
        if item["id"] == id:
            return place
    raise NotFound(f"Item with id '{values.shown(id)}' not found.", param="after")


def _nowhere(path: str) -> None:
    """There is no response header for what a query says."""
