"""python -m bench.embeddings.encode FOLDER COUNT: sentence-transformers' own `encode` on one big
batch, alone on the machine, in float32; prints texts a second."""

from __future__ import annotations

import sys
import time

from bench.embeddings.checkpoint import texts


def main(folder: str, count: int) -> None:
    from sentence_transformers import SentenceTransformer

    # A checkpoint in fp16 is loaded in fp16 otherwise, which CPUs emulate: six times slower.
    model = SentenceTransformer(folder, device="cpu", local_files_only=True).float()
    sample = texts(count)
    model.encode(sample[:64])
    rates = []
    for batch_size in (32, 128):
        started = time.perf_counter()
        model.encode(sample, batch_size=batch_size, show_progress_bar=False)
        rates.append(count / (time.perf_counter() - started))
    print(max(rates))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
