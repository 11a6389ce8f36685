"""Protocol work per request outside the engine: p50 and p99, in microseconds of CPU time.

    python -m bench.protocol
    python -m bench.protocol --requests 5000

One process, one thread, no model: the time from the bytes of a request to what the engine is asked
(JSON, the table of parameters, rules, messages, constraint), and from the engine's pieces to the
bytes of the answer (chunks and their events, or the whole completion). Tokenising is not in it.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import click

from provider.base import ApiRequest
from provider.engine.request import Usage
from provider.protocol import sse
from provider.protocol.chat import parse
from provider.protocol.chunks import Chunks
from provider.protocol.completion import Answer, Head
from provider.protocol.constraints import constraint, reader
from provider.protocol.conversation import conversation

PIECES = 100
"""Pieces of text in one answer."""

HEAD = Head("chatcmpl-0", 0, "model", "fp_0")
ROOM: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 20},
        "area": {"type": "number", "minimum": 0},
        "kind": {"enum": ["living", "bed", "bath", "kitchen"]},
    },
    "required": ["name", "area", "kind"],
    "additionalProperties": False,
}
PLAN = {
    "type": "object",
    "properties": {f"room{index}": ROOM for index in range(10)},
    "required": [f"room{index}" for index in range(10)],
    "additionalProperties": False,
}
CHAT: dict[str, Any] = {
    "model": "gpt-4o-mini",
    "messages": [
        {"role": "system", "content": "You analyse floor plans. " * 20},
        {"role": "user", "content": "거실은 남향입니다. " * 60},
    ],
    "temperature": 0,
    "max_tokens": 500,
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "plan", "strict": True, "schema": PLAN}}
TOOLS = [
    {"type": "function", "function": {"name": f"tool{index}", "parameters": PLAN}}
    for index in range(3)
]
BODIES = {
    "text": CHAT,
    "json_schema": {**CHAT, "response_format": FORMAT},
    "three tools": {**CHAT, "tools": TOOLS},
}


def asked(body: bytes) -> None:
    """From bytes to what the engine is asked, tokenising aside."""
    request = parse(ApiRequest("POST", "/v1/chat/completions", body=body).json)
    constraint(request)
    conversation(request)


def streamed() -> None:
    request = parse(CHAT)
    chunks = Chunks(HEAD, [Answer(0, reader(request))], include_usage=True)
    for _ in range(PIECES):
        for chunk in chunks.piece(0, "남향"):
            sse.event(chunk)
    for chunk in (*chunks.finished(0, "stop"), *chunks.done(Usage(1, PIECES))):
        sse.event(chunk)


def whole() -> None:
    answer = Answer(0, reader(parse(CHAT)))
    for _ in range(PIECES):
        answer.grow("남향")
    answer.end("stop")
    json.dumps(HEAD.completion([answer.choice()], Usage(1, PIECES)), ensure_ascii=False).encode()


def measure(work: Callable[[], None], requests: int) -> tuple[float, float]:
    """p50 and p99 of one call, in microseconds of CPU time, after a warm-up."""
    work()
    taken = []
    for _ in range(requests):
        begun = time.thread_time_ns()
        work()
        taken.append((time.thread_time_ns() - begun) / 1000)
    cuts = statistics.quantiles(taken, n=100)
    return cuts[49], cuts[98]


@click.command(help=__doc__)
@click.option("--requests", default=2000, show_default=True, help="Requests per row.")
def main(requests: int) -> None:
    rows: dict[str, Callable[[], None]] = {
        **{
            f"request, {name}": partial(asked, json.dumps(body).encode())
            for name, body in BODIES.items()
        },
        f"stream of {PIECES} pieces": streamed,
        f"completion of {PIECES} pieces": whole,
    }
    click.echo(f"{'per request, µs':<28}{'p50':>8}{'p99':>8}")
    for name, work in rows.items():
        middle, high = measure(work, requests)
        click.echo(f"{name:<28}{middle:>8.0f}{high:>8.0f}")


if __name__ == "__main__":
    main()
