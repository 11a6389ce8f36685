"""What llama.cpp does for us, run by the Python that has llama-cpp-python. Imports nothing of ours.

    python llama_worker.py quantise IN.gguf OUT.gguf TYPE
    python llama_worker.py logits FILE.gguf PROMPTS.json OUT.npz

PROMPTS.json is a list of lists of token ids; OUT.npz holds one [positions, vocabulary] of float32
logits for each, named by its number.
"""

from __future__ import annotations

import ctypes
import json
import sys
from typing import Any


def quantise(source: str, destination: str, kind: str) -> None:
    import llama_cpp  # type: ignore[import-not-found]

    wanted: Any = llama_cpp.llama_model_quantize_default_params()
    wanted.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{kind.upper()}")
    llama_cpp.llama_backend_init()
    code = llama_cpp.llama_model_quantize(
        source.encode(), destination.encode(), ctypes.byref(wanted)
    )
    if code:
        raise SystemExit(f"llama_model_quantize ended with {code}")


def logits(path: str, prompts: str, destination: str) -> None:
    import llama_cpp
    import numpy as np

    with open(prompts, encoding="utf-8") as file:
        asked: list[list[int]] = json.load(file)
    longest = max(map(len, asked))
    model: Any = llama_cpp.Llama(
        path, n_ctx=longest, n_batch=longest, logits_all=True, n_threads=2, verbose=False
    )
    found: dict[str, Any] = {}
    for number, tokens in enumerate(asked):
        model.reset()
        model.eval(tokens)
        found[str(number)] = np.array(model.scores[: len(tokens)], dtype=np.float32)
    np.savez(destination, **found)


if __name__ == "__main__":
    {"quantise": quantise, "logits": logits}[sys.argv[1]](*sys.argv[2:])
