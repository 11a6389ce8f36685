"""Logits that a grammar leaves out: the others are the same to the last bit, and so are answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from provider.engine.checkpoint import Checkpoint, load
from provider.engine.constraint import ConstraintState, GrammarCache
from provider.engine.engine import Engine
from provider.engine.fused import FusedRunner
from provider.engine.head import Head
from provider.engine.limits import Limits
from provider.engine.linear import Linear
from provider.engine.native.kernels import BLOCK, Kernels
from provider.engine.request import GenerationRequest, Sampling
from provider.protocol.schema import compile
from tests.engine.needs import needs_kernels
from tests.engine.serving import serve

SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "kind": {"enum": ["거실", "침실", "주방"]},
        "sizes": {
            "type": "array",
            "items": {"type": "integer", "minimum": 1, "maximum": 99},
            "minItems": 2,
            "maxItems": 4,
            "uniqueItems": True,
        },
        "ok": {"type": "boolean"},
    },
    "required": ["name", "kind", "sizes", "ok"],
    "additionalProperties": False,
}
TEXT = '{"name":"안방 1","kind":"침실","sizes":[12,7,3],"ok":true}'


@pytest.fixture(scope="module")
def checkpoint(exaone_folder: Path) -> Checkpoint:
    return load(exaone_folder, device="cpu", dtype="bf16", progress=False)


def state(checkpoint: Checkpoint) -> ConstraintState:
    tokenizer = Engine(checkpoint).vocabulary.grammar
    return ConstraintState(GrammarCache(tokenizer).matcher(compile(SCHEMA)), tokenizer)


@needs_kernels
@given(
    st.lists(st.none() | st.sets(st.integers(0, 9), min_size=1, max_size=4), max_size=14),
    st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_what_is_computed_is_what_it_would_have_been(
    own: Kernels, wanted: list[set[int] | None], seed: int
) -> None:
    chance = torch.Generator().manual_seed(seed)
    weight = torch.randn(10 * BLOCK, 96, generator=chance).bfloat16()
    head = Head(Linear(weight, kernels=own))
    assert head.narrows
    x = torch.randn(max(1, len(wanted)), 96, generator=chance).bfloat16()
    outputs = [None if blocks is None else np.array(sorted(blocks)) for blocks in wanted]
    whole, found = head(x).float(), head.logits(x, outputs)
    assert found.shape == whole.shape
    assert found.dtype == torch.float32
    for row, blocks in enumerate(outputs):
        mine, theirs = found[row].view(-1, BLOCK), whole[row].view(-1, BLOCK)
        if blocks is None:
            assert torch.equal(mine, theirs)
            continue
        assert torch.equal(mine[blocks], theirs[blocks])
        left = torch.isinf(mine)
        assert torch.equal(mine[~left], theirs[~left])


def test_without_kernels_everything_is_computed() -> None:
    head = Head(Linear(torch.randn(128, 64)))
    assert not head.narrows
    x = torch.randn(2, 64)
    assert torch.equal(head.logits(x, [np.array([0]), None]), head(x))


def test_blocks_ahead_hold_every_token_that_may_come(checkpoint: Checkpoint) -> None:
    """At each place of an answer, its end included, and the state is left where it was."""
    tokens = checkpoint.tokenizer.encode(TEXT)
    for start in range(0, len(tokens), 3):
        ahead, plain = state(checkpoint), state(checkpoint)
        for token in tokens[:start]:
            ahead.accept(token)
            plain.accept(token)
        found = ahead.blocks_ahead(tokens[start:], 1000)
        assert len(found) == 1 + len(tokens) - start
        for blocks, following in zip(found, [*tokens[start:], None], strict=True):
            if plain.complete:
                assert blocks is None
                break
            plain.compute_mask()
            allowed = np.flatnonzero(np.unpackbits(plain.mask, bitorder="little"))
            assert blocks is not None
            assert set(allowed // BLOCK) == set(blocks)
            if following is not None:
                plain.accept(following)
        for token in tokens[start:]:
            ahead.accept(token)
        assert ahead.complete


def test_many_blocks_are_all(checkpoint: Checkpoint) -> None:
    tokens = checkpoint.tokenizer.encode('{"name":"')
    found = state(checkpoint).blocks_ahead(tokens, 2)
    assert found[0] is not None
    assert found[-1] is None


@needs_kernels
def test_an_answer_is_the_same_with_all_logits(
    own: Kernels, exaone_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own, "rows", 4096)  # the products of any step round alike
    checkpoint = load(exaone_folder, device="cpu", dtype="bf16", progress=False)
    asked: list[int] = []
    inner = Head.logits

    def counted(self: Head, x: torch.Tensor, outputs: list[np.ndarray | None]) -> torch.Tensor:
        asked.append(sum(blocks is not None for blocks in outputs))
        return inner(self, x, outputs)

    monkeypatch.setattr(Head, "logits", counted)
    encode = checkpoint.tokenizer.encode
    requests = [
        GenerationRequest(
            tuple(encode(f"{TEXT} 거실 {number}")),
            Sampling(temperature, seed=5, logit_bias=((7, 3.0),) if number % 2 else ()),
            50,
            constraint=compile(SCHEMA) if number < 5 else None,
        )
        for number in range(6)
        for temperature in (0.0, 0.9)
    ]
    texts = []
    for narrows in (True, False):
        engine = Engine(checkpoint, Limits(max_batch=4))
        assert isinstance(engine._runner, FusedRunner)
        monkeypatch.setattr(engine._runner, "narrows", narrows)
        before = sum(asked)
        engine.start()
        texts.append([client.text() for client in serve(engine, requests)])
        engine.close()
        assert (sum(asked) > before + 50) is narrows
    assert texts[0] == texts[1]
    assert all(text for text in texts[0][:10])
