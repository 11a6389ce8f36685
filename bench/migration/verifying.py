"""python -m bench.migration.verifying URL [SPACE]: the verification as a process of its own, as
`sllm db verify` is one. Prints one line of JSON."""

from __future__ import annotations

import json
import sys
import time

from bench.migration.stage import make, settings_of
from migrations.verify.run import Options, verify


def main(url: str, space: str = "local") -> None:
    started = time.monotonic()
    report = verify(settings_of(url), space, Options(queries=50, again=20), make=make)
    facts = {
        "verify": report.verdict,
        "verify seconds": round(time.monotonic() - started, 1),
        "recall": [c.detail for c in report.checks if c.name.startswith("recall")],
    }
    print(json.dumps(facts, ensure_ascii=False))


if __name__ == "__main__":
    main(*sys.argv[1:])
