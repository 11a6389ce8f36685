"""transformers' `generate`, constrained through Outlines with its llguidance backend."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import torch
from outlines.backends.llguidance import LLGuidanceBackend
from outlines.models import Transformers
from transformers import AutoModelForCausalLM, LogitsProcessorList, PreTrainedTokenizerFast

from bench.engine.workers.protocol import Firsts, Result, serve

COMPACT = {"whitespace_flexible": False, "item_separator": ",", "key_separator": ":"}


class Watch:
    """Notes that the first tokens of all rows are there."""

    def __init__(self, firsts: Firsts) -> None:
        self._firsts = firsts

    def __call__(self, _: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if not self._firsts.noted:
            for row in range(scores.shape[0]):
                self._firsts.saw(row)
        return scores


def main(folder: str) -> None:
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()
    backend = LLGuidanceBackend(Transformers(model, tokenizer))

    @torch.inference_mode()
    def run(case: dict[str, Any]) -> Result:
        prompts, most = case["prompts"], case["new_tokens"]
        width = max(map(len, prompts))
        ids = torch.tensor([[0] * (width - len(p)) + p for p in prompts])
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
        firsts = Firsts(len(prompts))
        processors: list[Any] = [Watch(firsts)]
        if case["schema"]:
            stated = json.loads(case["schema"]) | {"x-guidance": COMPACT}
            processors.append(backend.get_json_schema_logits_processor(json.dumps(stated)))
        out = model.generate(
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=most,
            min_new_tokens=None if case["schema"] else most,
            do_sample=False,
            pad_token_id=0,
            logits_processor=LogitsProcessorList(processors),
        )[:, width:]
        tokens = int((out != 0).sum())
        texts = tokenizer.batch_decode(out, skip_special_tokens=True)
        return {"tokens": tokens, "texts": texts, **firsts.noted}

    serve(run)


if __name__ == "__main__":
    main(sys.argv[1])
