"""python -m bench.embeddings.beside [--seconds 20] [--shape base|demo] [--way packed|padded]

How long short texts wait in the embedding queue beside texts of 8,000 tokens: four clients send
single texts one after the other, first alone, then while a fifth sends nothing but long texts.
In this process, without HTTP.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from bench.embeddings.checkpoint import DEMO, demo, texts
from provider.engine.embed_queue import EmbedQueue
from provider.engine.embedder import Embedder

LONG = 8000
CLIENTS = 4


@dataclass(frozen=True)
class Waits:
    """Seconds that single short texts took, and how many long ones were answered meanwhile."""

    short: Sequence[float]
    long: Sequence[float]

    def row(self, name: str) -> str:
        ordered = sorted(self.short)
        at = [ordered[min(len(ordered) - 1, int(q * len(ordered)))] * 1e3 for q in (0.5, 0.99)]
        longest = f"{statistics.fmean(self.long):.1f}" if self.long else ""
        return (
            f"| {name} | {len(ordered)} | {at[0]:.0f} | {at[1]:.0f} | {ordered[-1] * 1e3:.0f} | "
            f"{longest} |"
        )


def checkpoint(folder: Path, layers: int, way: str) -> Path:
    """Random weights with room for the long texts: an encoder that is packed (RoBERTa), or one
    that transformers computes as a padded batch (ModernBERT)."""
    import torch
    from transformers import ModernBertConfig, ModernBertModel, RobertaConfig, RobertaModel

    torch.manual_seed(0)
    demo(folder)
    if way == "packed":
        config = RobertaConfig.from_pretrained(DEMO)
        config.num_hidden_layers, config.intermediate_size = layers, 3072
        config.max_position_embeddings = LONG + 194
        RobertaModel(config, add_pooling_layer=False).save_pretrained(folder)
    else:
        own = RobertaConfig.from_pretrained(DEMO)
        modern = ModernBertConfig(
            vocab_size=own.vocab_size,
            hidden_size=own.hidden_size,
            num_hidden_layers=layers,
            num_attention_heads=own.num_attention_heads,
            intermediate_size=1152,
            max_position_embeddings=LONG + 192,
            pad_token_id=own.pad_token_id,
        )
        ModernBertModel(modern).save_pretrained(folder)
    stated = {"pooling": "cls", "normalize": True, "max_tokens": LONG + 192}
    (folder / "sllm.json").write_text(json.dumps({"embedding": stated}), encoding="utf-8")
    for path in folder.glob("sentence_bert_config.json"):
        path.unlink()
    return folder


async def measure(queue: EmbedQueue, seconds: float, long: str | None) -> Waits:
    """The short clients' waits, with `long` sent over and over beside them."""
    until = time.perf_counter() + seconds
    pool = texts(4000)
    short_times: list[float] = []
    long_times: list[float] = []

    async def client(text: str | None, offset: int, into: list[float]) -> None:
        number = offset
        while time.perf_counter() < until:
            started = time.perf_counter()
            await queue.embed([text if text is not None else pool[number % len(pool)]])
            into.append(time.perf_counter() - started)
            number += CLIENTS

    jobs = [client(None, number, short_times) for number in range(CLIENTS)]
    if long is not None:
        jobs.append(client(long, 0, long_times))
    await asyncio.gather(*jobs)
    return Waits(short_times, long_times)


def long_text(embedder: Embedder) -> str:
    """About `LONG` tokens."""
    words = " ".join(texts(4000)).split()
    low, high = 1, len(words)
    while low < high:
        middle = (low + high + 1) // 2
        if embedder.count_tokens([" ".join(words[:middle])])[0] <= LONG:
            low = middle
        else:
            high = middle - 1
    return " ".join(words[:low])


@click.command()
@click.option("--seconds", default=20.0, show_default=True)
@click.option("--shape", type=click.Choice(["base", "demo"]), default="base", show_default=True)
@click.option("--way", type=click.Choice(["packed", "padded"]), default="packed", show_default=True)
def main(seconds: float, shape: str, way: str) -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        path = checkpoint(Path(folder) / "long", 12 if shape == "base" else 1, way)
        embedder = Embedder.load(path)
        queue = EmbedQueue(embedder)
        long = long_text(embedder)
        click.echo(f"{embedder.count_tokens([long])[0]} tokens, {shape}, {way}")
        click.echo("| short texts | answered | p50 ms | p99 ms | longest ms | a long text, s |")
        click.echo("|---|---|---|---|---|---|")
        for name, text in (("alone", None), ("beside long texts", long)):
            click.echo(asyncio.run(measure(queue, seconds, text)).row(name))
        queue.close()


if __name__ == "__main__":
    main()
