"""How an answer ends where the request says more than OpenAI's can."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from provider.engine.checkpoint import Checkpoint, load
from provider.engine.engine import Engine
from provider.engine.limits import Limits
from provider.engine.request import Ending, GenerationRequest, Sampling
from tests.engine.serving import serve


@pytest.fixture(scope="module")
def checkpoint(exaone_folder: Path) -> Checkpoint:
    return load(exaone_folder, device="cpu", dtype="fp32", progress=False)


@pytest.fixture(scope="module")
def engine(checkpoint: Checkpoint) -> Iterator[Engine]:
    engine = Engine(checkpoint, Limits())
    engine.start()
    yield engine
    engine.close()


@pytest.fixture
def asked(checkpoint: Checkpoint, engine: Engine) -> Callable[..., tuple[str, str, int]]:
    """Text, finish reason and number of tokens of a greedy answer."""

    def ask(bias: dict[int, float] | None = None, **fields: Any) -> tuple[str, str, int]:
        sampling = Sampling(temperature=0, logit_bias=tuple((bias or {}).items()))
        prompt = tuple(checkpoint.tokenizer.encode("The kitchen"))
        request = GenerationRequest(prompt, sampling, **{"max_tokens": 24, **fields})
        client = serve(engine, [request])[0]
        return client.text(), client.reason(), client.usage.completion

    return ask


def test_a_stop_token_ends_the_answer(
    checkpoint: Checkpoint, asked: Callable[..., tuple[str, str, int]]
) -> None:
    token = checkpoint.tokenizer.encode("x")[0]
    always = {token: 100.0}
    assert asked(always) == ("x" * 24, "length", 24)
    assert asked(always, ending=Ending(stop_tokens=(token,))) == ("", "stop", 1)
    kept = Ending(stop_tokens=(token,), keep_stop=True)
    assert asked(always, ending=kept) == ("x", "stop", 1)


def test_a_stop_string_is_kept_on_request(asked: Callable[..., tuple[str, str, int]]) -> None:
    text = asked()[0]
    stop = text[5:8]
    until = text.index(stop)
    assert asked(stop=(stop,))[0] == text[:until]
    kept = asked(stop=("never", stop), ending=Ending(keep_stop=True))
    assert kept[:2] == (text[: until + len(stop)], "stop")


def test_the_models_own_end_can_be_ignored(
    checkpoint: Checkpoint, asked: Callable[..., tuple[str, str, int]]
) -> None:
    end = min(checkpoint.tokenizer.eos_ids)
    assert asked({end: 100.0}) == ("", "stop", 1)
    assert asked({end: 100.0}, ending=Ending(ignore_eos=True)) == ("", "length", 24)


def test_nothing_ends_an_answer_before_min_tokens(
    checkpoint: Checkpoint, asked: Callable[..., tuple[str, str, int]]
) -> None:
    end = min(checkpoint.tokenizer.eos_ids)
    assert asked({end: 100.0}, ending=Ending(min_tokens=5))[1:] == ("stop", 6)
    token = checkpoint.tokenizer.encode("x")[0]
    several = asked({token: 100.0}, stop=("x",), ending=Ending(min_tokens=5))
    assert several == ("x" * 5, "stop", 6)
