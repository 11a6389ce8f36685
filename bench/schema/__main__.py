"""python -m bench.schema FOLDER [--show]: compiled, right, too lax, too strict, refused, times.

FOLDER holds `{"schema", "tests": [{"data", "valid"}]}` files or lists of them, such as the
JSON-Schema-Test-Suite. Times are CPU milliseconds of a cold compile, validation included; both
engines see every schema in the same run, one after the other.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from llguidance import LLTokenizer

from bench.schema.accepts import Judge, OutOfSteps
from bench.schema.cases import Case, read
from bench.schema.engines import ENGINES, Refused
from provider.protocol.schema.probe import byte_tokenizer


@dataclass
class Tally:
    """What became of the cases under one engine."""

    cases: int = 0
    right: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    refused_empty: int = 0
    lax: list[str] = field(default_factory=list)
    strict: list[str] = field(default_factory=list)
    undecided: int = 0
    times: list[float] = field(default_factory=list)

    def run(self, engine: str, case: Case, tokenizer: LLTokenizer) -> None:
        self.cases += 1
        start = time.process_time()
        try:
            grammar = ENGINES[engine](case.schema)
        except Refused as refused:
            self.refused[str(refused)] += 1
            self.refused_empty += not any(valid for _, valid in case.tests)
            return
        finally:
            self.times.append((time.process_time() - start) * 1e3)
        self._judge(Judge(grammar, tokenizer), case)

    def _judge(self, judge: Judge, case: Case) -> None:
        wrong = {True: False, False: False}
        for value, valid in case.tests:
            try:
                accepted = judge.accepts(value)
            except OutOfSteps:
                self.undecided += 1
                continue
            except RuntimeError:
                accepted = False
            if accepted != valid:
                wrong[accepted] = True
        if wrong[True]:
            self.lax.append(case.name)
        if wrong[False]:
            self.strict.append(case.name)
        self.right += not (wrong[True] or wrong[False])


def _print(name: str, tally: Tally, show: bool) -> None:
    def share(n: int) -> str:
        return f"{n} ({n / max(tally.cases, 1):.1%})"

    times = sorted(tally.times)
    compiled = tally.cases - sum(tally.refused.values())
    print(f"{name}: {tally.cases} schemas")
    print(f"  compiled            {share(compiled)}")
    print(f"  right on every test {share(tally.right)}")
    print(f"  too lax             {share(len(tally.lax))}")
    print(f"  too strict          {share(len(tally.strict))}")
    print(f"  refused, no valid instance among its tests  {tally.refused_empty}")
    print(f"  values given up on  {tally.undecided}")
    at = [times[int(len(times) * q)] for q in (0.5, 0.95)] + [times[-1]]
    print(f"  compile CPU ms      p50 {at[0]:.2f}  p95 {at[1]:.2f}  max {at[2]:.1f}")
    for reason, count in tally.refused.most_common(20 if show else 8):
        print(f"    refused {count:4}  {reason}")
    if show:
        for kind, names in (("lax", tally.lax), ("strict", tally.strict)):
            print("".join(f"    too {kind}: {n}\n" for n in names), end="")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--show", action="store_true", help="name the cases that went wrong")
    arguments = parser.parse_args()
    tokenizer = byte_tokenizer()
    tallies = {name: Tally() for name in ENGINES}
    for case in read(arguments.folder):
        for name, tally in tallies.items():
            tally.run(name, case, tokenizer)
    if not tallies["ours"].cases:
        parser.error(f"no cases below {arguments.folder}")
    for name, tally in tallies.items():
        _print(name, tally, arguments.show)


if __name__ == "__main__":
    main()
