"""How the benchmark talks to an engine in another process: one JSON object per line.

In:  {"prompts": [[ids]], "new_tokens": n, "schema": text or null}
Out: {"wall": seconds, "cpu": seconds of the process, "tokens": n, "first": seconds, "texts": [...]}

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


def serve(run: Callable[[dict[str, Any]], Result]) -> None:
    """Answers cases until the input ends. What engines print goes to standard error."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    print(json.dumps({"ready": True}), file=out, flush=True)
    for line in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        result = run(json.loads(line))
        result["wall"] = time.perf_counter() - wall
        result["cpu"] = time.process_time() - cpu
        print(json.dumps(result, ensure_ascii=False), file=out, flush=True)
