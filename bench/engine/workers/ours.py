"""This engine. `DRAFTS=0` turns drafts off."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

import torch

from bench.engine.workers.protocol import Firsts, Result, serve
from provider.engine.checkpoint import load
from provider.engine.engine import Engine
from provider.engine.limits import Limits
from provider.engine.request import Done, GenerationRequest, Piece, Sampling
from provider.protocol.schema import compile


def main(folder: str) -> None:
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    checkpoint = load(folder, device="cpu", dtype="bf16", progress=False)
    drafts = os.environ.get("DRAFTS", "1") == "1"
    engine = Engine(checkpoint, Limits(prefix_share=0.0, drafts=drafts))
    engine.start()

    def run(case: dict[str, Any]) -> Result:
        return answer(engine, checkpoint.tokenizer.encode, case)

    serve(run)
    engine.close()


def answer(engine: Engine, encode: Callable[[str], list[int]], case: dict[str, Any]) -> Result:
    count = len(case["prompts"])
    over = [threading.Event() for _ in range(count)]
    texts = [""] * count
    tokens = 0
    firsts = Firsts(count)
    began: list[str] = []
    before = engine.stats()

    def listen(index: int) -> Any:
        def on_event(event: Any) -> None:
            nonlocal tokens
            if isinstance(event, Piece):
                texts[index] += event.text
                firsts.saw(index)
                if firsts.noted and not began:
                    began.extend(texts)
            if isinstance(event, Done):
                tokens += event.usage.completion
            if isinstance(event, Done | Exception):
                over[index].set()

        return on_event

    constraint = compile(json.loads(case["schema"])) if case["schema"] else None
    bias = () if constraint else tuple((token, -100.0) for token in engine.vocabulary.eos)
    for index, prompt in enumerate(case["prompts"]):
        sampling = Sampling(temperature=0, logit_bias=bias)
        request = GenerationRequest(
            tuple(prompt), sampling, case["new_tokens"], constraint=constraint
        )
        engine.submit(request, listen(index))
    for event in over:
        event.wait()
    after = engine.stats()
    rows = after["forward_rows"] - before["forward_rows"]
    # A piece may hold many tokens, forced ones among them.
    firsts.noted["tokens_first"] = sum(len(encode(text)) for text in began)
    return {
        "tokens": tokens,
        "texts": texts,
        **firsts.noted,
        "per_forward": tokens / max(1, rows),
        "steps": after["steps"] - before["steps"],
    }


if __name__ == "__main__":
    main(sys.argv[1])
