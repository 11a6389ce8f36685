"""vLLM on CPU with its structured outputs. Runs in vLLM's own environment."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
sys.path.insert(0, os.getcwd())

from bench.engine.workers.protocol import Firsts, Result, serve


def main(folder: str) -> None:
    from vllm import LLM, SamplingParams  # type: ignore[import-not-found]
    from vllm.sampling_params import (  # type: ignore[import-not-found]
        StructuredOutputsParams,
    )

    model = LLM(
        folder,
        dtype="bfloat16",
        max_model_len=4096,
        max_num_seqs=8,
        enforce_eager=os.environ.get("EAGER", "1") == "1",
        enable_prefix_caching=False,
        structured_outputs_config={"backend": "guidance", "disable_any_whitespace": True},
    )

    def run(case: dict[str, Any]) -> Result:
        outputs = None
        if case["schema"]:
            outputs = StructuredOutputsParams(json=json.loads(case["schema"]))
        sampling = SamplingParams(
            temperature=0,
            max_tokens=case["new_tokens"],
            ignore_eos=not case["schema"],
            structured_outputs=outputs,
        )
        engine, firsts = model.llm_engine, Firsts(len(case["prompts"]))
        for row, prompt in enumerate(case["prompts"]):
            engine.add_request(str(row), {"prompt_token_ids": prompt}, sampling)
        texts, known = [""] * len(case["prompts"]), [0] * len(case["prompts"])
        while engine.has_unfinished_requests():
            for said in engine.step():
                row, output = int(said.request_id.split("-")[0]), said.outputs[0]
                firsts.saw(row, len(output.token_ids) - known[row])
                known[row], texts[row] = len(output.token_ids), output.text
        return {"tokens": firsts.tokens, "texts": texts, **firsts.noted}

    serve(run)


if __name__ == "__main__":
    main(sys.argv[1])
