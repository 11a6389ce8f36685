"""python -m bench.finetune.data [ROWS]: the whole check of many conversations, and what it finds.

One in a hundred rows is a planted near duplicate (a tenth of its answer is other text), one in a
hundred breaks the schema; the check has to find exactly these.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from finetune.data.check import Limits, check
from finetune.data.report import write_report
from finetune.data.schemas import AnswerSchema

SCHEMA = {
    "type": "object",
    "properties": {"summary": {"type": "string"}, "score": {"type": "integer", "maximum": 9}},
    "required": ["summary", "score"],
    "additionalProperties": False,
}
WORDS = [*"평면도 거실 주방 현관 침실 욕실 면적 창문 남향 채광 환기 복도 수납 기준 적합".split()]  # noqa: SIM905
WORDS += [f"낱말{number}" for number in range(3000)]


def main(rows: int) -> None:
    """Makes the file, checks it with schema and report, and prints seconds and counts."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        planted = _write(path, rows)
        wall, cpu = time.monotonic(), time.process_time()
        found = check([path], Limits({None: AnswerSchema(SCHEMA, "bench")}))
        write_report(found, Path(folder) / "report", 2048)
        wall, cpu = time.monotonic() - wall, time.process_time() - cpu
        kinds = Counter(problem.kind for problem in found.problems)
        size = path.stat().st_size
    print(f"{rows:,} conversations, {size / 1e6:.0f} MB: {wall:.1f} s, {cpu:.1f} s of CPU")
    for kind, name in (("near duplicate", "near duplicates"), ("answer", "broken answers")):
        print(f"{name}: {kinds[kind]:,} found of {planted[kind]:,}")


def _write(path: Path, rows: int) -> Counter[str]:
    dice = random.Random(0)
    planted: Counter[str] = Counter()
    earlier: list[tuple[str, str]] = []
    with path.open("w", encoding="utf-8") as file:
        for number in range(rows):
            asked, said = _text(dice, 60), _text(dice, 80)
            if number % 100 == 99:
                asked, said = earlier.pop(dice.randrange(len(earlier)))
                asked, said = f"{asked}?", f"{said[: len(said) * 9 // 10]} 그리고 다른 끝"
                planted["near duplicate"] += 1
            elif number % 100 < 50:
                earlier.append((asked, said))
            score = 10 if number % 100 == 50 else dice.randint(0, 9)
            planted["answer"] += score == 10
            file.write(json.dumps(_record(asked, said, score), ensure_ascii=False) + "\n")
    return planted


def _record(asked: str, said: str, score: int) -> dict[str, Any]:
    answer = json.dumps({"summary": said, "score": score}, ensure_ascii=False)
    return {
        "messages": [
            {"role": "system", "content": "너는 평면도 분석가다."},
            {"role": "user", "content": asked},
            {"role": "assistant", "content": answer},
        ],
        "agent_type": "abcdef"[score % 6],
    }


def _text(dice: random.Random, words: int) -> str:
    return " ".join(dice.choices(WORDS, k=words))


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 100_000)
