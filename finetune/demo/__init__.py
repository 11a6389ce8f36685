"""The demo models: a small EXAONE-shaped checkpoint and a small embedder, trained from scratch.

Everything comes from this package: the data (generated, seeded), the tokenizers, the training and
the evaluation. The results are shipped under `artifacts/`, so a fresh clone needs no training.
They are demonstrations: not EXAONE's own weights, and good at the one task they were taught.
"""
