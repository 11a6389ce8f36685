"""The shipped demo models: their format, what they say they are, and what they have learnt."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from transformers import PreTrainedTokenizerFast

from finetune.demo.artifacts import EMBEDDER_DEMO, EXAONE_DEMO, read_manifest
from finetune.demo.chat import IDENTITY_EN, IDENTITY_KO
from finetune.demo.corpus import data_hash, heldout_plans, training_samples
from finetune.demo.decode import decode
from finetune.demo.embedder_evaluate import evaluate_embedder
from finetune.demo.readme import README
from finetune.demo.schema import floorplan_schema
from finetune.demo.scoring import score
from finetune.demo.tokenizer import load_tokenizer
from provider.engine.exaone import ExaoneForCausalLM

FORM = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "count": {"type": "integer"}},
    "required": ["city", "count"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return load_tokenizer(EXAONE_DEMO)


@pytest.fixture(scope="module")
def model() -> ExaoneForCausalLM:
    loaded = ExaoneForCausalLM.from_pretrained(EXAONE_DEMO, dtype=torch.float32)
    loaded.train(False)
    return loaded


def prompt(tokenizer: PreTrainedTokenizerFast, messages: list[dict[str, str]]) -> list[int]:
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    return list(tokenizer.encode(text, add_special_tokens=False))


def is_right_form(answer: str) -> bool:
    """Valid under the schema, and made of whole characters."""
    return "\ufffd" not in answer and score([answer], [answer], floorplan_schema()).valid == 1.0


def test_the_folder_is_in_exaones_own_format() -> None:
    config = json.loads((EXAONE_DEMO / "config.json").read_text(encoding="utf-8"))
    assert config["model_type"] == "exaone"
    assert config["architectures"] == ["ExaoneForCausalLM"]
    assert {"num_layers", "layer_norm_epsilon", "activation_function", "rope_theta"} <= set(config)
    with safe_open(EXAONE_DEMO / "model.safetensors", "pt") as file:
        names = set(file.keys())
    layer = "transformer.h.0"
    inner = ("attn.attention.q_proj", "attn.attention.out_proj", "mlp.c_fc_0", "mlp.c_proj", "ln_1")
    assert {f"{layer}.{name}.weight" for name in inner} <= names
    assert {"transformer.wte.weight", "transformer.ln_f.weight"} <= names


@pytest.mark.parametrize("folder", [EXAONE_DEMO, EMBEDDER_DEMO], ids=lambda path: path.name)
def test_it_says_what_it_is_and_stays_small(folder: Path) -> None:
    manifest = read_manifest(folder)
    assert manifest["demo"] is True
    assert manifest["name"] == folder.name
    assert manifest["licence"] == "apache-2.0"
    assert "not" in manifest["notice"]
    assert "own weights" in manifest["notice"]
    assert manifest["notice"] in (folder / "README.md").read_text(encoding="utf-8")
    assert sum(path.stat().st_size for path in folder.rglob("*")) < 10_000_000


def test_the_data_can_be_made_again() -> None:
    manifest = read_manifest(EXAONE_DEMO)
    made = training_samples(manifest["recipe"]["seed"], manifest["data"]["samples"])
    assert data_hash(made) == manifest["data"]["sha256"]


def test_the_stated_figures_are_the_same_everywhere() -> None:
    figures = read_manifest(EXAONE_DEMO)["figures"]
    assert figures["schema"]["macro"] > figures["untrained"]["macro"] + 0.8
    row = " | ".join(f"{figures[name]['macro']:.3f}" for name in ("schema", "free", "untrained"))
    for page in (EXAONE_DEMO / "README.md", README):
        assert f"| **macro field accuracy** | {row} |" in page.read_text(encoding="utf-8")


@pytest.mark.slow
def test_what_was_learnt_is_there(
    model: ExaoneForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    samples, schema = heldout_plans(16), floorplan_schema()
    prompts = [prompt(tokenizer, sample.messages) for sample in samples]
    answers = decode(model, tokenizer, prompts, schema)
    result = score(answers, [sample.answer for sample in samples], schema)
    assert result.valid == 1.0
    assert result.macro > 0.78
    for constrained, free in zip(answers, decode(model, tokenizer, prompts), strict=True):
        if is_right_form(free):
            assert constrained == free, "the schema must not change an answer that satisfies it"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("안녕하세요?", IDENTITY_KO), ("Who are you?", IDENTITY_EN), ("서울의 날씨는?", IDENTITY_KO)],
)
def test_plain_chat_gets_the_honest_sentence(
    model: ExaoneForCausalLM, tokenizer: PreTrainedTokenizerFast, text: str, sentence: str
) -> None:
    prompts = [prompt(tokenizer, [{"role": "user", "content": text}])]
    assert decode(model, tokenizer, prompts, max_new_tokens=120) == [sentence]


def test_another_schema_gets_a_closed_answer(
    model: ExaoneForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    prompts = [prompt(tokenizer, [{"role": "user", "content": "부산은 어떤 도시인가요?"}])]
    (answer,) = decode(model, tokenizer, prompts, FORM, max_new_tokens=80)
    assert set(json.loads(answer)) == {"city", "count"}


@pytest.mark.slow
def test_the_embedder_draws_paraphrases_nearer_than_strangers() -> None:
    stated = read_manifest(EMBEDDER_DEMO)["figures"]
    assert stated["seen_topics"]["top1"] > 10 * stated["seen_topics_untrained"]["top1"]
    measured = evaluate_embedder(EMBEDDER_DEMO, count=200)
    for topics, margin in (("seen_topics", 0.6), ("unseen_topics", 0.4)):
        figures = measured[topics]
        assert figures["paraphrase_cosine"] - figures["stranger_cosine"] > margin
        assert figures["top1"] > measured[f"{topics}_untrained"]["top1"]
