"""What drafts are worth on real answers, without a model: held-out plans' own answers replayed.

    python -m bench.engine.replay WIDE_FOLDER [--answers 12] [--plans heldout]

For each threshold (how likely a guess must be to be offered; the engine sets it by what a token
costs) tokens per forward pass, guesses per pass and the share of them that were right: of the first
answer to the schema, and of the last half. Forced tokens are left out. Ways of guessing are
compared on plans of another seed (`--plans NAME`) than those that figures are reported of.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random

from finetune.demo.corpus import Sample, floorplan_sample, heldout_plans
from provider.engine.chat import ChatTokenizer
from provider.engine.drafts import Drafter
from provider.engine.habits import Habits

THRESHOLDS = (0.05, 0.1, 0.2, 0.5, 0.7, 0.9)

Counts = tuple[int, int, int, int]
"""Tokens, forward passes, guesses, right guesses."""


def replay(
    drafter: Drafter, prompt: list[int], answer: list[int], threshold: float, habits: Habits
) -> Counts:
    """One answer, as a greedy engine whose model writes exactly `answer` would draft it."""
    tokens = list(prompt)
    steps = offered = right = 0
    while (done := len(tokens) - len(prompt)) < len(answer):
        guess = [token for token, _ in drafter.guess(tokens, threshold, habits)[0]]
        agreed = 0
        while agreed < len(guess) and guess[agreed : agreed + 1] == answer[done + agreed :][:1]:
            agreed += 1
        tokens += answer[done : done + agreed + 1]
        steps, offered, right = steps + 1, offered + len(guess), right + agreed
    drafter.learn(tokens, habits)
    return len(answer), steps, offered, right


def said(counts: Sequence[Counts]) -> str:
    tokens, steps, offered, right = (sum(column) for column in zip(*counts, strict=True))
    return f"{tokens / steps:5.2f} {offered / steps:8.2f} {right / max(1, offered):6.2f}"


def plans(name: str, count: int) -> list[Sample]:
    """Plans and their right answers; no training seed draws these."""
    if name == "heldout":
        return heldout_plans(count)
    return [floorplan_sample(Random(f"{name}/{index}")) for index in range(count)]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--answers", type=int, default=12)
    parser.add_argument("--plans", default="heldout")
    options = parser.parse_args()
    tokenizer = ChatTokenizer.load(options.folder / "original")
    samples = [
        (tokenizer.encode_chat(sample.messages), tokenizer.encode(sample.answer))
        for sample in plans(options.plans, options.answers)
    ]
    token_bytes = [tokenizer.token_bytes(token) for token in range(tokenizer.vocab_size)]
    print("threshold | first answer: tokens/pass, guesses/pass, right | last half | us/token")
    for threshold in THRESHOLDS:
        habits, started = Habits(), time.process_time()
        counts = [
            replay(Drafter(prompt, (), token_bytes), prompt, answer, threshold, habits)
            for prompt, answer in samples
        ]
        spent = 1e6 * (time.process_time() - started) / sum(count[0] for count in counts)
        late = counts[len(counts) // 2 :]
        print(f"{threshold:9.2f} | {said(counts[:1])} | {said(late)} | {spent:.0f}")


if __name__ == "__main__":
    main()
