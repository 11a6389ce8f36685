"""What a narrower precision costs: distance of the logits, accuracy on the schema task, memory.

    python -m bench.engine.precision [--plans 40] [--model FOLDER]

Every precision answers the same held-out plans of the demo task under the schema, greedily, through
the engine. Distances are of the logits at every token of eight true answers against float32's: the
relative error, the mean Kullback-Leibler divergence in nats, and how often the most likely token is
the same.
"""

from __future__ import annotations

import argparse
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from finetune.demo.artifacts import EXAONE_DEMO
from finetune.demo.corpus import Sample, heldout_plans
from finetune.demo.schema import floorplan_schema
from finetune.demo.scoring import Score, score
from provider.engine.attention import Segment
from provider.engine.cache import CacheShape, KVCache
from provider.engine.checkpoint import Checkpoint, load
from provider.engine.engine import Engine
from provider.engine.limits import Limits
from provider.engine.request import Done, GenerationRequest, Piece, Sampling
from provider.engine.runner import Step, attention_heads
from provider.engine.runners import runner_of
from provider.errors import ApiError, ConfigurationError
from provider.protocol.schema import compile

PRECISIONS: list[tuple[str, Any, Any]] = [
    ("fp32", "fp32", None),
    ("bf16", "bf16", None),
    ("fp16", "fp16", None),
    ("int8", "bf16", "int8"),
    ("nf4", "bf16", "nf4"),
]


@dataclass(frozen=True)
class Measured:
    logits: Tensor
    score: Score
    weights: int


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--plans", type=int, default=40)
    parser.add_argument("--model", type=Path, default=EXAONE_DEMO)
    options = parser.parse_args()
    torch.set_num_threads(1)
    samples = heldout_plans(options.plans)
    print("| precision | weights, MB | logits' error | KL, nats | same top token |", end="")
    print(" valid | macro field accuracy |\n|---|---|---|---|---|---|---|")
    plain: Tensor | None = None
    for name, dtype, quantization in PRECISIONS:
        try:
            found = measure(
                load(options.model, "cpu", dtype, quantization, progress=False), samples
            )
        except ConfigurationError as error:
            print(f"| {name} | does not run here: {str(error)[:90]} | | | | | |")
            continue
        plain = found.logits if plain is None else plain
        print(row(name, found, plain), flush=True)


def row(name: str, found: Measured, plain: Tensor) -> str:
    error = float((found.logits - plain).norm() / plain.norm())
    left, right = torch.log_softmax(plain, -1), torch.log_softmax(found.logits, -1)
    divergence = float((left.exp() * (left - right)).sum(-1).mean())
    same = float((plain.argmax(-1) == found.logits.argmax(-1)).float().mean())
    return (
        f"| {name} | {found.weights / 1e6:.2f} | {error:.4f} | {divergence:.5f} | {same:.3f} | "
        f"{found.score.valid:.2f} | {found.score.macro:.3f} |"
    )


def measure(checkpoint: Checkpoint, samples: list[Sample]) -> Measured:
    prompts = [checkpoint.tokenizer.encode_chat(sample.messages) for sample in samples]
    weights = sum(parameter.nbytes for parameter in checkpoint.model.parameters())
    logits = distances(checkpoint, prompts, samples)
    engine = Engine(checkpoint, Limits())
    engine.start()
    texts = answers(engine, prompts)
    engine.close()
    expected = [sample.answer for sample in samples]
    return Measured(logits, score(texts, expected, floorplan_schema()), weights)


@torch.inference_mode()
def distances(checkpoint: Checkpoint, prompts: list[list[int]], samples: list[Sample]) -> Tensor:
    """The engine's logits at every token of the true answers, which all precisions read alike."""
    model = checkpoint.model
    runner = runner_of(model)
    parts = []
    for prompt, sample in zip(prompts[:8], samples[:8], strict=True):
        tokens = [*prompt, *checkpoint.tokenizer.encode(sample.answer)]
        count = len(tokens)
        shape = CacheShape(*attention_heads(model), model.dtype, model.device, count, count)
        slot = KVCache(shape).allocate(count)
        if slot is None:
            raise RuntimeError(f"an empty cache of {count} tokens has no room for them")
        places = list(range(count))
        segment = Segment(0, count, 0, slot)
        step = Step(tokens, places, [segment], places[len(prompt) - 1 : -1])
        parts.append(runner.forward(step))
    return torch.cat(parts)


def answers(engine: Engine, prompts: list[list[int]]) -> list[str]:
    """Greedy answers under the task's schema, all at once."""
    constraint = compile(floorplan_schema())
    texts = [""] * len(prompts)
    over = [threading.Event() for _ in prompts]

    def listen(index: int) -> Any:
        def on_event(event: Any) -> None:
            if isinstance(event, Piece):
                texts[index] += event.text
            if isinstance(event, Done | ApiError):
                over[index].set()

        return on_event

    for index, prompt in enumerate(prompts):
        request = GenerationRequest(
            tuple(prompt), Sampling(temperature=0), 800, constraint=constraint
        )
        engine.submit(request, listen(index))
    for event in over:
        event.wait()
    return texts


if __name__ == "__main__":
    main()
