"""Small real embedders: a bag of words, projected. Another text gives another vector, texts that
share words are near, and the same text gives the same bits, so stored vectors can be compared."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable

import numpy as np


class BagOfWords:
    """Sum of one fixed random direction per word, normalised to length 1.

    `seed` makes another model of the same width: same neighbours, unrelated coordinates.
    """

    def __init__(self, dimensions: int, seed: int = 0) -> None:
        self.dimensions = dimensions
        self.seed = seed
        self.calls: list[int] = []
        self.before: Callable[[list[str]], None] = lambda texts: None
        self._words: dict[str, np.ndarray] = {}
        self._lock = threading.Lock()

    def embed_texts(self, texts: list[str], /) -> list[list[float]]:
        self.before(texts)
        with self._lock:
            self.calls.append(len(texts))
            return [self.vector(text).tolist() for text in texts]

    def vector(self, text: str) -> np.ndarray:
        words = re.findall(r"\w+", text.lower()) or [text]
        total = np.sum([self._word(word) for word in words], axis=0)
        return np.asarray(total / np.linalg.norm(total), dtype=np.float32)

    @property
    def embedded(self) -> int:
        """Texts embedded so far."""
        return sum(self.calls)

    def _word(self, word: str) -> np.ndarray:
        if word not in self._words:
            if len(self._words) >= 50_000:  # numbers are words too: a million is 6 GB
                self._words.clear()
            digest = hashlib.sha256(f"{self.seed}:{word}".encode()).digest()
            generator = np.random.default_rng(int.from_bytes(digest[:8], "big"))
            self._words[word] = generator.standard_normal(self.dimensions)
        return self._words[word]


class Refusal(Exception):
    """An embedder's error with an HTTP status, as the SDK's errors have."""

    def __init__(self, status_code: int) -> None:
        super().__init__(f"status {status_code}")
        self.status_code = status_code
