"""Embeddings over HTTP against what sentence-transformers does alone, and against infinity."""
