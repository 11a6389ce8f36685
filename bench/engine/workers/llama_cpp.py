"""llama.cpp with its JSON-schema grammar, one stream. Runs in its own environment."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

sys.path.insert(0, os.getcwd())

from bench.engine.workers.protocol import Result, serve


def main(path: str) -> None:
    from llama_cpp import Llama, LlamaGrammar  # type: ignore[import-not-found]

    model: Any = Llama(
        path,
        n_ctx=4096,
        n_batch=512,
        n_threads=int(os.environ.get("OMP_NUM_THREADS", "1")),
        n_threads_batch=int(os.environ.get("OMP_NUM_THREADS", "1")),
        verbose=False,
    )

    def run(case: dict[str, Any]) -> Result:
        grammar = None
        if case["schema"]:
            grammar = LlamaGrammar.from_json_schema(case["schema"], verbose=False)
        texts, tokens, first = [], 0, 0.0
        for prompt in case["prompts"]:
            model.reset()
            model._ctx.kv_cache_clear()
            started, data = time.perf_counter(), b""
            for number, token in enumerate(model.generate(prompt, temp=0.0, grammar=grammar)):
                first = first or time.perf_counter() - started
                if number + 1 >= case["new_tokens"] or (
                    case["schema"] and token == model.token_eos()
                ):
                    tokens += number + 1
                    break
                data += model.detokenize([token])
            texts.append(data.decode(errors="replace"))
        return {"tokens": tokens, "first": first, "texts": texts}

    serve(run)


if __name__ == "__main__":
    main(sys.argv[1])
