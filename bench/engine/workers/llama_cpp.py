"""llama.cpp with its JSON-schema grammar, all streams in one batch. Runs in its own environment.

Speaks llama.cpp's C interface as its own server does: a sequence for each answer, prompts in parts
of 512 tokens, and the grammar asked about the most likely token first and about the whole
vocabulary only if that one is refused.
"""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Any

sys.path.insert(0, os.getcwd())

from bench.engine.workers.protocol import Firsts, Result, serve

STREAMS, BATCH = 8, 512


class Model:
    """A context of llama.cpp with `STREAMS` sequences."""

    def __init__(self, path: str) -> None:
        import llama_cpp as lib  # type: ignore[import-not-found]
        import numpy as np

        self.lib, self.np = lib, np
        lib.llama_backend_init()
        quiet = lib.llama_log_callback(lambda *_: None)
        self._quiet = quiet
        lib.llama_log_set(quiet, ctypes.c_void_p(0))
        self.model = lib.llama_model_load_from_file(path.encode(), lib.llama_model_default_params())
        if not self.model:
            raise SystemExit(f"llama.cpp does not load {path}")
        self.vocabulary = lib.llama_model_get_vocab(self.model)
        self.size = lib.llama_vocab_n_tokens(self.vocabulary)
        self.eos = lib.llama_vocab_eos(self.vocabulary)
        stated = lib.llama_context_default_params()
        stated.n_ctx, stated.n_batch, stated.n_ubatch = 1024 * STREAMS, BATCH, BATCH
        stated.n_seq_max, stated.kv_unified = STREAMS, False
        stated.n_threads = stated.n_threads_batch = int(os.environ.get("OMP_NUM_THREADS", "1"))
        self.context = lib.llama_init_from_model(self.model, stated)
        self.batch = lib.llama_batch_init(BATCH, 0, 1)

    def clear(self) -> None:
        self.lib.llama_memory_clear(self.lib.llama_get_memory(self.context), True)

    def feed(self, items: list[tuple[int, int, int, bool]]) -> None:
        """(token, position, sequence, whether its logits are wanted) of one step."""
        self.batch.n_tokens = len(items)
        for at, (token, position, sequence, wanted) in enumerate(items):
            self.batch.token[at], self.batch.pos[at] = token, position
            self.batch.n_seq_id[at], self.batch.seq_id[at][0] = 1, sequence
            self.batch.logits[at] = wanted
        if self.lib.llama_decode(self.context, self.batch):
            raise RuntimeError("llama_decode failed")

    def logits(self, at: int) -> Any:
        found = self.lib.llama_get_logits_ith(self.context, at)
        return self.np.ctypeslib.as_array(found, shape=(self.size,))

    def grammar(self, schema: str) -> Any:
        """A fresh grammar sampler for one answer."""
        from llama_cpp.llama_grammar import json_schema_to_gbnf  # type: ignore[import-not-found]

        text = json_schema_to_gbnf(schema).encode()
        return self.lib.llama_sampler_init_grammar(self.vocabulary, text, b"root")

    def choose(self, logits: Any, grammar: Any) -> int:
        """The most likely token that the grammar allows."""
        best = int(logits.argmax())
        if grammar is None:
            return best
        if not self._allowed(grammar, self.np.array([best]), logits)[0]:
            ids = self.np.arange(self.size)
            allowed = self._allowed(grammar, ids, logits)
            best = int(ids[allowed][logits[allowed].argmax()])
        self.lib.llama_sampler_accept(grammar, best)
        return best

    def _allowed(self, grammar: Any, ids: Any, logits: Any) -> Any:
        kind = self.np.dtype([("id", "<i4"), ("logit", "<f4"), ("p", "<f4")])
        data = self.np.zeros(len(ids), kind)
        data["id"], data["logit"] = ids, logits[ids]
        held = ctypes.cast(data.ctypes.data, ctypes.POINTER(self.lib.llama_token_data))
        array = self.lib.llama_token_data_array(held, len(ids), -1, False)
        self.lib.llama_sampler_apply(grammar, ctypes.byref(array))
        return self.np.isfinite(data["logit"])

    def text(self, tokens: list[int]) -> str:
        data = b""
        for token in tokens:
            piece = ctypes.create_string_buffer(256)
            count = self.lib.llama_token_to_piece(self.vocabulary, token, piece, 256, 0, False)
            data += piece.raw[: max(0, count)]
        return data.decode(errors="replace")


def answer(model: Model, case: dict[str, Any]) -> Result:
    prompts, schema = case["prompts"], case["schema"]
    firsts = Firsts(len(prompts))
    model.clear()
    grammars = [model.grammar(schema) if schema else None for _ in prompts]
    written: list[list[int]] = [[] for _ in prompts]
    pending = [
        (token, at, row, at + 1 == len(prompt))
        for row, prompt in enumerate(prompts)
        for at, token in enumerate(prompt)
    ]
    while pending:
        fed, pending = pending[:BATCH], pending[BATCH:]
        model.feed(fed)
        following = []
        for at, (_, position, row, wanted) in enumerate(fed):
            if wanted:
                token = model.choose(model.logits(at), grammars[row])
                written[row].append(token)
                firsts.saw(row)
                if len(written[row]) < case["new_tokens"] and not (schema and token == model.eos):
                    following.append((token, position + 1, row, True))
        pending = following + pending
    for grammar in grammars:
        if grammar is not None:
            model.lib.llama_sampler_free(grammar)
    texts = [model.text(tokens) for tokens in written]
    return {"tokens": firsts.tokens, "texts": texts, **firsts.noted}


def main(path: str) -> None:
    model = Model(path)
    serve(lambda case: answer(model, case))


if __name__ == "__main__":
    main(sys.argv[1])
