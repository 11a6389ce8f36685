"""Nothing of one request leaks into another: mixed batches give what each request gives alone.

The model is float64, so that a draw never lies within rounding of a boundary; in float32 the same
holds but for about one draw in 100,000 (docs/engine.md).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from provider.engine.checkpoint import Checkpoint, load
from provider.engine.engine import Engine
from provider.engine.limits import Limits
from provider.engine.lora import read_adapter
from provider.engine.request import GenerationRequest, Sampling
from provider.errors import ApiError, ModelNotFound, ServerError
from provider.protocol.schema import compile, regex
from tests.engine.adapter_files import write_adapter
from tests.engine.one_by_one import Expected, complete
from tests.engine.serving import Client, eventually, serve, submit

ROOM = {
    "type": "object",
    "properties": {
        "name": {"enum": ["거실", "침실", "주방"]},
        "area": {"type": "integer", "minimum": 1, "maximum": 99},
        "note": {"type": "string", "maxLength": 8},
    },
    "required": ["name", "area", "note"],
    "additionalProperties": False,
}
PLAN = {
    "type": "object",
    "properties": {
        "rooms": {"type": "array", "items": ROOM, "minItems": 1, "maxItems": 2},
        "south": {"type": "boolean"},
    },
    "required": ["rooms", "south"],
    "additionalProperties": False,
}
ADAPTERS = ("exaone:floorplan", "other")


@pytest.fixture(scope="module")
def checkpoint(exaone_folder: Path) -> Checkpoint:
    loaded = load(exaone_folder, device="cpu", dtype="fp32", progress=False)
    loaded.model.double()
    return loaded


@pytest.fixture(scope="module")
def adapters(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two adapters on disk, strong enough to change every answer."""
    folder = tmp_path_factory.mktemp("adapters")
    return {
        name: write_adapter(folder / str(seed), checkpoint.model, seed)
        for seed, name in enumerate(ADAPTERS)
    }


@pytest.fixture(scope="module")
def engine(checkpoint: Checkpoint, adapters: dict[str, Path]) -> Iterator[Engine]:
    engine = Engine(checkpoint, Limits(step_tokens=48))
    engine.start()
    for name, path in adapters.items():
        engine.load_adapter(name, path)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def alone(checkpoint: Checkpoint, adapters: dict[str, Path]) -> Callable[..., Expected]:
    """The slow way, under a request's adapter merged into a copy of the weights."""
    models = {None: checkpoint.model} | {
        name: merged(checkpoint, path) for name, path in adapters.items()
    }

    def expect(engine: Engine, request: GenerationRequest, index: int = 0) -> Expected:
        return complete(models[request.adapter], engine.vocabulary, request, index)

    return expect


def merged(checkpoint: Checkpoint, path: Path) -> Any:
    twin = type(checkpoint.model)(checkpoint.model.config).double().eval()
    twin.load_state_dict(checkpoint.model.state_dict())
    for name, module in read_adapter(path, checkpoint).modules.items():
        weight: Any = twin.get_submodule(name).weight
        weight.data += module.scaling * (module.b.double() @ module.a.double())
    return twin


def requests(checkpoint: Checkpoint, count: int, seed: int) -> list[GenerationRequest]:
    """Many kinds of requests; neighbours share beginnings of prompts."""
    chance = random.Random(seed)
    constraints = [None, None, compile(ROOM), compile(PLAN), regex("[가-힣]{2,4}[0-9]{3}")]
    texts = ["당신은 친절한 건축 전문가입니다. " * 4, "The living room", "거실은", '{"rooms":[']
    made = []
    for _ in range(count):
        text = chance.choice(texts) + chance.choice(["", "2024", "kitchen", "침실은 세 개"])
        made.append(
            GenerationRequest(
                tuple(checkpoint.tokenizer.encode(text)),
                Sampling(
                    temperature=chance.choice([0, 0, 0.8, 1.5]),
                    top_p=chance.choice([1.0, 0.7]),
                    seed=chance.randrange(1000),
                    presence_penalty=chance.choice([0, 0, 1.0]),
                    frequency_penalty=chance.choice([0, 0, 0.5]),
                    logit_bias=chance.choice([(), ((99, 4.0), (120, -100.0))]),
                    logprobs=chance.choice([None, None, 2]),
                ),
                max_tokens=chance.choice([1, 8, 24]),
                n=chance.choice([1, 1, 1, 2]),
                stop=chance.choice([(), (), ("the", "은"), ("a",)]),
                constraint=chance.choice(constraints),
                adapter=chance.choice([None, None, *ADAPTERS]),
                prediction=chance.choice([(), tuple(checkpoint.tokenizer.encode(text))]),
            )
        )
    return made


def test_64_mixed_requests_give_what_each_gives_alone(
    checkpoint: Checkpoint, engine: Engine, alone: Callable[..., Expected]
) -> None:
    wanted = requests(checkpoint, 64, seed=1)
    doomed = [
        submit(engine, request, cancel_after=1) for request in requests(checkpoint, 16, seed=2)
    ]
    for request, client in zip(wanted, serve(engine, wanted), strict=True):
        total = 0
        for index in range(request.n):
            expected = alone(engine, request, index)
            got = (client.text(index), client.reason(index))
            assert got == (expected.text, expected.reason), request
            total += len(expected.tokens)
        assert client.usage.completion == total
    assert all(client.wait() for client in doomed)
    assert eventually(lambda: engine.stats()["running"] == 0)


def test_a_constraint_that_breaks_fails_its_own_request_only(
    checkpoint: Checkpoint,
    engine: Engine,
    alone: Callable[..., Expected],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prompt = tuple(checkpoint.tokenizer.encode("거실은 남향이고"))
    healthy = [
        GenerationRequest(prompt, Sampling(temperature=0), 24),
        GenerationRequest(prompt, Sampling(seed=5), 24, constraint=compile(ROOM)),
    ]
    client = Client()
    made_answers: list[Any] = []
    original = engine._answer

    def answer(job: Any, index: int) -> Any:
        made = original(job, index)
        made_answers.append(made)
        return made

    monkeypatch.setattr(engine, "_answer", answer)
    broken = GenerationRequest(prompt, Sampling(seed=6), 24, constraint=compile(PLAN))

    def fail(*_: Any) -> None:
        raise ZeroDivisionError("a bug in a grammar")

    def on_event(event: Any) -> None:
        made_answers[0].constraint.permits = fail
        client(event)

    engine.submit(broken, on_event)
    clients = serve(engine, healthy)
    assert isinstance(client.wait().error, ServerError)
    for request, healthy_client in zip(healthy, clients, strict=True):
        assert healthy_client.text() == alone(engine, request).text
    assert engine.stats()["deaths"] == 0


def test_an_adapter_under_way_survives_its_replacement(
    checkpoint: Checkpoint,
    adapters: dict[str, Path],
    alone: Callable[..., Expected],
) -> None:
    engine = Engine(checkpoint, Limits(max_adapters=1, context_length=400))
    engine.start()
    prompt = tuple(checkpoint.tokenizer.encode("당신은 친절한 건축 전문가입니다. " * 4))
    old = GenerationRequest(prompt, Sampling(temperature=0), 80, adapter="other")
    engine.load_adapter("other", adapters["other"])
    client = submit(engine, old)
    client.first.wait(30)
    engine.load_adapter("other", adapters["exaone:floorplan"])
    new = submit(engine, old).wait()
    assert client.wait().text() == alone(engine, old).text
    replaced = GenerationRequest(prompt, old.sampling, 80, adapter="exaone:floorplan")
    assert new.text() == alone(engine, replaced).text
    assert new.usage.cached == 0

    engine.load_adapter("second", adapters["other"])
    assert engine.adapters() == ["other", "second"]
    assert engine.stats()["adapters"] == 1
    assert submit(engine, old).wait().text() == new.text()
    engine.unload_adapter("other")
    with pytest.raises(ModelNotFound):
        engine.submit(old, Client())
    engine.close()


def test_a_repeated_prompt_is_computed_once_and_never_under_another_adapter(
    checkpoint: Checkpoint, engine: Engine, alone: Callable[..., Expected]
) -> None:
    prompt = tuple(checkpoint.tokenizer.encode("The kitchen has 12 square metres in 2024. " * 6))
    first, again = (
        serve(engine, [GenerationRequest(prompt, Sampling(temperature=0), 8)])[0] for _ in range(2)
    )
    assert first.usage.cached == 0
    assert again.usage.cached == len(prompt) - 1
    assert again.text() == first.text()
    other = GenerationRequest(prompt, Sampling(temperature=0), 8, adapter="other")
    assert (client := serve(engine, [other])[0]).usage.cached == 0
    assert client.text() == alone(engine, other).text


def test_many_requests_leave_nothing_behind(checkpoint: Checkpoint) -> None:
    engine = Engine(checkpoint, Limits(step_tokens=64, prefix_share=0.0))
    engine.start()
    for round_ in range(4):
        serve(engine, [replaced(r) for r in requests(checkpoint, 48, seed=10 + round_)])
    assert eventually(lambda: engine.stats()["running"] == 0)
    assert eventually(lambda: engine.stats()["kv_tokens"] == 0)
    assert not engine._open or all(job.closed for job in engine._open)
    engine.close()


def replaced(request: GenerationRequest) -> GenerationRequest:
    return GenerationRequest(
        request.prompt,
        request.sampling,
        request.max_tokens,
        request.n,
        request.stop,
        request.constraint,
    )


def test_little_memory_makes_answers_wait_or_start_over_but_changes_nothing(
    checkpoint: Checkpoint, alone: Callable[..., Expected]
) -> None:
    weights = sum(p.numel() * p.element_size() for p in checkpoint.model.parameters())
    per_token = 3 * 2 * 2 * 16 * 8
    limits = Limits(memory=weights + 1100 * per_token, step_tokens=64)
    engine = Engine(checkpoint, limits)
    engine.start()
    prompt = tuple(checkpoint.tokenizer.encode("거실은 남향이고 " * 110))
    wanted = [GenerationRequest(prompt, Sampling(seed=seed), 50) for seed in range(5)]
    for request, client in zip(wanted, serve(engine, wanted), strict=True):
        assert client.text() == alone(engine, request).text
    assert engine.stats()["preemptions"] > 0
    engine.close()


@pytest.mark.parametrize("width", [16, 64])
def test_the_packed_forward_equals_the_models_own(checkpoint: Checkpoint, width: int) -> None:
    """Chunks of several rows, against the whole rows one at a time."""
    from provider.engine.attention import Segment
    from provider.engine.cache import CacheShape, KVCache
    from provider.engine.runner import ModelRunner, Step, attention_heads
    from provider.engine.runners import runner_of

    model = checkpoint.model
    layers, heads, dim = attention_heads(model)
    rows = torch.randint(6, 470, (3, 130), generator=torch.Generator().manual_seed(width)).tolist()
    for runner in (ModelRunner(model), runner_of(model)):
        cache = KVCache(CacheShape(layers, heads, dim, model.dtype, model.device, 512, 8192))
        slots = [cache.allocate(140 + 180 * row) for row in range(3)]
        got: list[list[torch.Tensor]] = [[], [], []]
        for start in range(0, 130, width):
            step = Step()
            for tokens, slot in zip(rows, slots, strict=True):
                assert slot is not None
                part = tokens[start : start + width]
                offset = len(step.tokens)
                step.tokens += part
                step.positions += range(start, start + len(part))
                step.segments.append(Segment(offset, len(part), start, slot))
                step.wanted += range(offset, offset + len(part))
            logits = iter(runner.forward(step))
            for row, tokens in enumerate(rows):
                got[row] += [next(logits) for _ in tokens[start : start + width]]
        for row, tokens in enumerate(rows):
            with torch.inference_mode():
                whole = model(input_ids=torch.tensor([tokens])).logits[0].float()
            assert torch.allclose(torch.stack(got[row]), whole, atol=1e-5)


def test_errors_are_the_clients_own(engine: Engine) -> None:
    with pytest.raises(ApiError):
        engine.submit(GenerationRequest((1, 2), adapter="nobody"), Client())
