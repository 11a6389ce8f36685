"""What a client sees when the hosted side misbehaves: asked directly, and through the server.

    python -m bench.gateway.faults            # every fault, as a Markdown table
    python -m bench.gateway.faults stall      # those whose name contains a word

The client is the official SDK without retries; the upstream is the strict stand-in of the tests,
which breaks at the level of HTTP and TCP. After each fault an ordinary request is sent the same
way: it must be answered.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import openai

from bench.gateway.targets import KEY, sllm
from tests.standin import FAULTS, StandIn, serve

UPSTREAM_SECONDS = 1.0
"""How long the server waits for the upstream, and the direct client for a byte."""

_QUICKLY: dict[str, dict[str, Any]] = {
    "delay": {"seconds": 0.2},
    "slow_drip": {"seconds": 0.001},
    "stream_endless": {"seconds": 0.001},
}
_ENOUGH = 50
"""Chunks after which the client of a stream without an end hangs up."""

MESSAGES: Any = [{"role": "user", "content": "방이 몇 개인가요?"}]


@dataclass
class Seen:
    """What came of a request. `silent`: less than the whole answer, and no error."""

    said: str
    silent: bool = False


def _failure(error: openai.APIError, after: int | None = None) -> Seen:
    kind = type(error).__name__
    status = getattr(error, "status_code", None)
    facts = [str(fact) for fact in (status, error.code) if fact is not None]
    said = f"{kind} ({' '.join(facts)})" if facts else kind
    return Seen(said if after is None else f"{said} after {after} chunks")


def plain(client: openai.OpenAI, whole: str) -> Seen:
    """One answer; `whole` is what it should be."""
    try:
        answer = client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES)
    except openai.APIError as error:
        return _failure(error)
    except Exception as error:  # noqa: BLE001 - whatever the client lets through is the finding
        return Seen(f"{type(error).__name__} (not the SDK's)", silent=True)
    choices = getattr(answer, "choices", None)
    if not choices:
        return Seen(f"no error, and {type(answer).__name__} without an answer", silent=True)
    text = choices[0].message.content
    return Seen("the answer") if text == whole else Seen("another text", silent=True)


def streamed(client: openai.OpenAI, whole: str) -> Seen:
    """One stream, read to its end."""
    text, count, finish = "", 0, None
    try:
        with client.chat.completions.create(
            model="gpt-4o-mini", messages=MESSAGES, stream=True
        ) as chunks:
            for chunk in chunks:
                count += 1
                for choice in chunk.choices:
                    text += choice.delta.content or ""
                    finish = choice.finish_reason or finish
                if count > len(whole) + _ENOUGH:
                    return Seen("chunks until it hangs up")
    except openai.APIError as error:
        return _failure(error, count)
    except Exception as error:  # noqa: BLE001 - whatever the client lets through is the finding
        return Seen(f"{type(error).__name__} (not the SDK's) after {count} chunks")
    if text == whole and finish is not None:
        return Seen("the answer")
    return Seen(f"a clean end after {count} chunks of half an answer", silent=True)


def row(standin: StandIn, clients: tuple[openai.OpenAI, ...], fault: str) -> list[Seen]:
    """What each client sees of the fault; raises where the request after it fails."""
    ask = streamed if fault.startswith("stream_") else plain
    seen = []
    for client in clients:
        standin.reset()
        whole = client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES)
        text = whole.choices[0].message.content or ""
        standin.faults.add(fault, **_QUICKLY.get(fault, {}))
        seen.append(ask(client, text))
        standin.faults.clear()
        client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES)
    return seen


@click.command()
@click.argument("word", default="")
def main(word: str) -> None:
    """Print the table of faults, for all whose name contains WORD."""
    faults = [name for name in FAULTS if word in name]
    with (
        tempfile.TemporaryDirectory() as folder,
        serve() as standin,
        sllm(
            standin.base_url,
            Path(folder),
            OPENAI_API_KEY=standin.key,
            OPENAI_TIMEOUT=str(UPSTREAM_SECONDS),
        ) as port,
    ):
        options: dict[str, Any] = {"max_retries": 0}
        direct = openai.OpenAI(
            base_url=standin.base_url, api_key=standin.key, timeout=UPSTREAM_SECONDS, **options
        )
        through = openai.OpenAI(
            base_url=f"http://127.0.0.1:{port}/v1", api_key=KEY, timeout=10, **options
        )
        _table(standin, (direct, through), faults)


def _table(standin: StandIn, clients: tuple[openai.OpenAI, ...], faults: list[str]) -> None:
    print("| The upstream | asked directly | through the server |\n|---|---|---|")
    silent = [0, 0]
    for fault in faults:
        seen = row(standin, clients, fault)
        cells = [f"**{one.said}**" if one.silent else one.said for one in seen]
        print(f"| `{fault}`: {FAULTS[fault]} | {cells[0]} | {cells[1]} |", flush=True)
        silent = [count + one.silent for count, one in zip(silent, seen, strict=True)]
    print(
        f"\n{len(faults)} faults; less than the answer and no error of the SDK's (bold): "
        f"{silent[0]} directly, {silent[1]} through the server. Each following request was "
        "answered."
    )


if __name__ == "__main__":
    main()
