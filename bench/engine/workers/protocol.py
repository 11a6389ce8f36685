"""How the benchmark talks to an engine in another process: one JSON object per line.

In:  {"prompts": [[ids]], "new_tokens": n, "schema": text or null}
Out: {"wall": seconds, "cpu": seconds of the engine's process, "tokens": n (0: the engine cannot do
this case), "texts": [...]} and, when every prompt had its first token, "cpu_first" (seconds) and
"tokens_first" (of all prompts)

This file runs in every peer's own environment, so it needs nothing but the standard library.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

Result = dict[str, Any]


class Firsts:
    """Counts tokens as they come, and notes CPU time when every prompt has its first."""

    def __init__(self, prompts: int, clock: Callable[[], float] = time.process_time) -> None:
        self._clock = clock
        self._began = clock()
        self._missing = set(range(prompts))
        self.tokens = 0
        self.noted: Result = {}

    def saw(self, prompt: int, tokens: int = 1) -> None:
        self.tokens += tokens
        self._missing.discard(prompt)
        if not self._missing and not self.noted:
            spent = self._clock() - self._began
            self.noted = {"cpu_first": spent, "tokens_first": self.tokens}


def serve(run: Callable[[dict[str, Any]], Result]) -> None:
    """Answers cases until the input ends. What engines print goes to standard error."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    print(json.dumps({"ready": True}), file=out, flush=True)
    for line in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        result = run(json.loads(line))
        result["wall"] = time.perf_counter() - wall
        result.setdefault("cpu", time.process_time() - cpu)
        print(json.dumps(result, ensure_ascii=False), file=out, flush=True)
