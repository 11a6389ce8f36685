"""python -m bench.finetune.gate [TRIALS]: how often the gate's interval holds the true ratio.

Scores as JSON tasks have them: an item's difficulty moves both models, each is right or partly
right. The true ratio lies at the gate, where a wrong interval is a wrong verdict. Beside ours, the
plain percentiles of the same bootstrap.
"""

from __future__ import annotations

import sys

import numpy as np
from numpy.typing import NDArray

from finetune.evaluate.gate import GATE, decide, ratios

SIZES = (8, 20, 50, 100, 200)


def main(trials: int) -> None:
    """Prints a row for each number of items."""
    dice = np.random.default_rng(0)
    print("| items | plain percentiles | ours | width of ours |\n|---|---|---|---|")
    for items in SIZES:
        plain = ours = 0
        widths = []
        for trial in range(trials):
            candidate, reference = _scores(dice, items)
            found = decide(list(candidate), list(reference), seed=trial)
            ours += found.low <= GATE <= found.high
            low, high = np.quantile(ratios(candidate, reference, trial), (0.025, 0.975))
            plain += bool(low <= GATE <= high)
            widths.append(found.high - found.low)
        print(f"| {items} | {plain / trials:.2f} | {ours / trials:.2f} | {np.median(widths):.2f} |")


def _scores(
    dice: np.random.Generator, items: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Candidate and reference; the candidate's expected score is the gate times the reference's."""
    easy = dice.beta(4, 2, items)
    reference = 0.6 * (dice.random(items) < easy) + 0.4 * easy
    candidate = 0.6 * (dice.random(items) < easy * GATE) + 0.4 * easy * GATE
    return candidate, reference


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 1000)
