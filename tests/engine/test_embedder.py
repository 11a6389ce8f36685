"""Embeddings: the model's own pooling, nothing cut, nothing depending on the batch."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Transformer
from sentence_transformers.base.modules.normalize import Normalize
from sentence_transformers.sentence_transformer.modules import Pooling
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import AutoModel, PreTrainedTokenizerFast, RobertaConfig, RobertaModel

from provider.engine.embedder import Embedder, InputTooLong, batches
from provider.errors import ConfigurationError, InvalidRequest
from tests.engine.conftest import TEXT

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:sentence_transformers")
SENTENCES = [
    "치타가 들판을 가로 질러 먹이를 쫓는다.",
    "치타 한 마리가 먹이 뒤에서 달리고 있다.",
    "원숭이 한 마리가 드럼을 연주한다.",
    "x",
    "거실과 주방이 이어진 집입니다. " * 3,
]


@pytest.fixture(scope="module")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A RoBERTa checkpoint as BM-K/KoSimCSE-roberta's is: no modules.json, a pooler, 514 positions
    scaled down to 66."""
    folder = tmp_path_factory.mktemp("encoders") / "tiny-roberta"
    names = ["[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]"]
    backend = Tokenizer(models.BPE(unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=380, special_tokens=names, show_progress=False, initial_alphabet=alphabet
    )
    backend.train_from_iterator([*TEXT, *SENTENCES], trainer)
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 0), ("[SEP]", 2)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, cls_token="[CLS]", sep_token="[SEP]", pad_token="[PAD]",
        unk_token="[UNK]", mask_token="[MASK]", model_max_length=64,
    )  # fmt: skip
    torch.manual_seed(5)
    shape: dict[str, Any] = {
        "vocab_size": 380, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 48, "max_position_embeddings": 66, "type_vocab_size": 1,
        "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "initializer_range": 0.2,
    }  # fmt: skip
    RobertaModel(RobertaConfig(**shape)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def folder(encoder_folder: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    copied = tmp_path / "encoder"
    copied.mkdir()
    for path in encoder_folder.iterdir():
        (copied / path.name).write_bytes(path.read_bytes())
    return copied


def state(folder: Path, **embedding: Any) -> Path:
    (folder / "sllm.json").write_text(json.dumps({"embedding": embedding}))
    return folder


def load(folder: Path | str, **options: Any) -> Embedder:
    return Embedder.load(folder, "cpu", **{"dtype": "fp32"} | options)


def hidden_states(folder: Path, text: str) -> torch.Tensor:
    """The encoder's last layer for one text, by transformers alone; [tokens, hidden]."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    model = AutoModel.from_pretrained(folder)
    with torch.no_grad():
        ids = torch.tensor([tokenizer.encode(text).ids])
        found: torch.Tensor = model(input_ids=ids).last_hidden_state[0]
    return found


def cosine(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_cls_is_the_first_token_before_the_pooler(folder: Path) -> None:
    found = load(state(folder, pooling="cls", normalize=False)).embed(SENTENCES).vectors
    for text, vector in zip(SENTENCES, found, strict=True):
        np.testing.assert_allclose(vector, hidden_states(folder, text)[0].numpy(), atol=1e-5)


def test_mean_is_over_the_tokens_of_the_text_only(folder: Path) -> None:
    found = load(state(folder, pooling="mean", normalize=False)).embed(SENTENCES).vectors
    for text, vector in zip(SENTENCES, found, strict=True):
        wanted = hidden_states(folder, text).mean(0).numpy()
        np.testing.assert_allclose(vector, wanted, atol=1e-5)


def test_kosimcse_is_known_as_cls_and_served_with_unit_length(folder: Path) -> None:
    """The maths of its published example, on a checkpoint of its architecture: the cosine of the
    CLS vectors of its three sentences."""
    renamed = folder.rename(folder.parent / "KoSimCSE-roberta")
    config = json.loads((renamed / "config.json").read_text())
    with pytest.raises(ConfigurationError, match="gives 32 dimensions; expected 768"):
        load(renamed)
    (renamed / "sllm.json").write_text('{"embedding": {"dimensions": 32}}')
    embedder = load(renamed)
    assert config["model_type"] == "roberta"
    assert (embedder.pooling, embedder.normalized, embedder.licence) == (
        "cls", True, "cc-by-sa-4.0",
    )  # fmt: skip
    vectors = embedder.embed(SENTENCES[:3]).vectors
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    cls = [hidden_states(renamed, text)[0].numpy() for text in SENTENCES[:3]]
    mean = [hidden_states(renamed, text).mean(0).numpy() for text in SENTENCES[:3]]
    for other in (1, 2):
        wanted = cosine(cls[0], cls[other])
        assert math.isclose(cosine(vectors[0], vectors[other]), wanted, abs_tol=1e-5)
        assert abs(cosine(mean[0], mean[other]) - wanted) > 1e-3


def test_a_folder_that_does_not_say_its_pooling_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigurationError, match="does not say how its token vectors become one"):
        load(folder)


def sentence_transformer(folder: Path, target: Path, *rest: Any, **pooling: Any) -> Path:
    modules = [Transformer(str(folder)), Pooling(32, **pooling), *rest]
    SentenceTransformer(modules=modules, device="cpu").save(str(target), create_model_card=False)
    return target


@pytest.mark.parametrize("mode", ["cls", "mean", "max", "lasttoken"])
def test_modules_json_gives_what_sentence_transformers_gives(
    folder: Path, tmp_path: Path, mode: str
) -> None:
    torch.manual_seed(6)
    target = sentence_transformer(
        folder, tmp_path / "st", Dense(32, 16), Normalize(), pooling_mode=mode
    )
    embedder = load(target)
    wanted = SentenceTransformer(str(target), device="cpu").encode(SENTENCES)
    np.testing.assert_allclose(embedder.embed(SENTENCES).vectors, wanted, atol=1e-5)
    assert (embedder.pooling, embedder.dimensions) == (mode, 16)


def test_modules_json_is_checked_against_what_is_known(folder: Path, tmp_path: Path) -> None:
    target = sentence_transformer(folder, tmp_path / "st", Normalize(), pooling_mode="mean")
    with pytest.raises(ConfigurationError, match="pooling 'mean' where 'cls' is known"):
        load(state(target, pooling="cls"))
    with pytest.raises(ConfigurationError, match="normalisation where none is known"):
        load(state(target, normalize=False))
    (target / "sllm.json").write_text('{"name": "BM-K/KoSimCSE-roberta"}')
    with pytest.raises(ConfigurationError, match="pooling 'mean' where 'cls' is known"):
        load(target)


def test_other_kinds_of_modules_are_refused_by_name(folder: Path, tmp_path: Path) -> None:
    target = sentence_transformer(folder, tmp_path / "st")
    listed = json.loads((target / "modules.json").read_text())
    listed.append({"idx": 2, "name": "2", "path": "2_CNN", "type": "sentence_transformers.CNN"})
    (target / "modules.json").write_text(json.dumps(listed))
    with pytest.raises(ConfigurationError, match=r"has a sentence_transformers\.CNN"):
        load(target)
    (target / "modules.json").write_text(json.dumps(listed[:1]))
    with pytest.raises(ConfigurationError, match="followed by one Pooling"):
        load(target)


def test_a_batch_gives_what_single_texts_give_in_their_order(folder: Path) -> None:
    embedder = load(state(folder, pooling="mean", normalize=True))
    texts = [("집 " * (1 + 7 * i % 11)) + str(i) for i in range(60)]
    together = embedder.embed(texts)
    for index, text in enumerate(texts):
        alone = embedder.embed([text])
        np.testing.assert_allclose(together.vectors[index], alone.vectors[0], atol=2e-6)
        assert together.token_counts[index] == alone.token_counts[0]
    assert together.vectors.dtype == np.float32
    assert embedder.embed([]).vectors.shape == (0, 32)


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_narrow_products_give_the_same_space(folder: Path, dtype: str) -> None:
    state(folder, pooling="cls", normalize=True)
    narrow, exact = load(folder, dtype=dtype), load(folder)
    texts = [("집 " * (1 + 7 * i % 11)) + str(i) for i in range(40)]
    wanted, found = exact.embed(texts).vectors, narrow.embed(texts).vectors
    assert (wanted * found).sum(1).min() > 0.9995
    alone = np.concatenate([narrow.embed([text]).vectors for text in texts])
    assert (alone * found).sum(1).min() > 0.9995
    assert narrow.fingerprint == exact.fingerprint


def test_batches_hold_every_text_once_and_are_bounded() -> None:
    lengths = [5, 900, 3, 4000, 5000, 7, 900, 2]
    made = list(batches(lengths, 2000))
    assert sorted(row for rows in made for row in rows) == list(range(len(lengths)))
    for rows in made:
        assert len(rows) == 1 or max(lengths[row] for row in rows) * len(rows) <= 2000


def test_a_text_over_the_limit_is_refused_with_its_index_and_count(folder: Path) -> None:
    embedder = load(state(folder, pooling="cls"))
    assert embedder.max_tokens == 64
    longest = next(
        text for n in range(200, 0, -1)
        if embedder.count_tokens([text := "집" * n])[0] <= 64
    )  # fmt: skip
    assert embedder.embed([longest]).token_counts[0] > 60
    with pytest.raises(InputTooLong, match=r"input\[1\].*maximum context length is 64") as refusal:
        embedder.embed(["x", "집" * 300])
    assert (refusal.value.index, refusal.value.limit) == (1, 64)
    assert refusal.value.tokens == embedder.count_tokens(["집" * 300])[0] > 64
    assert (refusal.value.status, refusal.value.code) == (400, "context_length_exceeded")


def test_prefixes_are_added_unless_the_app_wrote_them(folder: Path) -> None:
    state(folder, pooling="mean", query_prefix="query: ", passage_prefix="passage: ")
    embedder = load(folder)
    plain = load(state(folder, pooling="mean"))

    def same(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> bool:
        return bool(np.allclose(a, b, atol=1e-6))

    wanted = {p: plain.embed([f"{p}: 거실"]).vectors for p in ("query", "passage")}
    assert same(embedder.embed(["거실"], "query").vectors, wanted["query"])
    assert same(embedder.embed(["거실"], "passage").vectors, wanted["passage"])
    assert same(embedder.embed(["거실"]).vectors, wanted["passage"])
    assert same(embedder.embed(["query: 거실"]).vectors, wanted["query"])
    assert not same(wanted["query"], wanted["passage"])


def test_matryoshka_widths_are_cut_and_normalised_others_refused(folder: Path) -> None:
    state(folder, pooling="cls", matryoshka=[16, 8])
    whole, cut = load(folder), load(folder, dimensions=16)
    vectors, short = whole.embed(SENTENCES).vectors, cut.embed(SENTENCES).vectors
    wanted = vectors[:, :16] / np.linalg.norm(vectors[:, :16], axis=1, keepdims=True)
    np.testing.assert_allclose(short, wanted, atol=1e-6)
    assert (cut.dimensions, whole.dimensions) == (16, 32)
    with pytest.raises(ConfigurationError, match="cannot be cut to 20 dimensions; expected 32, 16"):
        load(folder, dimensions=20)


def test_fingerprint_tells_spaces_apart_and_nothing_else(folder: Path, tmp_path: Path) -> None:
    prints = {
        load(state(folder, pooling="cls")).fingerprint,
        load(state(folder, pooling="mean")).fingerprint,
        load(state(folder, pooling="cls", normalize=True)).fingerprint,
        load(state(folder, pooling="cls", passage_prefix="p: ")).fingerprint,
        load(state(folder, pooling="cls", matryoshka=[16]), dimensions=16).fingerprint,
    }
    assert len(prints) == 5
    moved = folder.rename(tmp_path / "elsewhere")
    again = load(state(moved, pooling="cls"), dtype="bf16")
    assert again.fingerprint in prints
    weights = load_file(moved / "model.safetensors")
    weights["encoder.layer.0.output.dense.bias"][0] += 1
    save_file(weights, moved / "model.safetensors", metadata={"format": "pt"})
    assert load(moved).fingerprint not in prints


def drop_a_weight(weights: dict[str, torch.Tensor]) -> None:
    del weights["encoder.layer.1.output.dense.weight"]


def add_a_weight(weights: dict[str, torch.Tensor]) -> None:
    weights["encoder.layer.9.surplus"] = torch.zeros(1)


def drop_the_pooler(weights: dict[str, torch.Tensor]) -> None:
    for name in [name for name in weights if name.startswith("pooler")]:
        del weights[name]


@pytest.mark.parametrize("change", [drop_a_weight, add_a_weight])
def test_every_weight_of_the_encoder_must_be_there(
    folder: Path, change: Callable[[dict[str, torch.Tensor]], None]
) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConfigurationError, match=r"does not match its config\.json"):
        load(state(folder, pooling="cls"))


def test_pickled_weights_are_read_where_there_are_no_others(folder: Path) -> None:
    wanted = load(state(folder, pooling="cls")).embed(SENTENCES).vectors
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    embedder = load(folder)
    np.testing.assert_allclose(embedder.embed(SENTENCES).vectors, wanted, atol=1e-6)
    assert len(embedder.fingerprint) == 64


def test_a_string_that_is_no_text_is_refused(folder: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"input\[1\].*lone surrogate"):
        load(state(folder, pooling="cls")).embed(["ok", "\ud800"])


def test_settings_of_older_sentence_transformers_are_understood(folder: Path) -> None:
    """As `modules.json` folders of 2020 to 2025 say it."""
    prefix = "sentence_transformers.models"
    modules = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    listed = [
        {"idx": i, "name": str(i), "path": path, "type": f"{prefix}.{kind}"}
        for i, (path, kind) in enumerate(modules)
    ]
    (folder / "modules.json").write_text(json.dumps(listed))
    (folder / "sentence_bert_config.json").write_text(
        '{"max_seq_length": 24, "do_lower_case": false}'
    )
    (folder / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": 32, "pooling_mode_cls_token": True}
    (folder / "1_Pooling" / "config.json").write_text(
        json.dumps(pooling | {"pooling_mode_mean_tokens": False})
    )
    embedder = load(folder)
    assert (embedder.pooling, embedder.normalized, embedder.max_tokens) == ("cls", True, 24)


def test_the_pooler_may_be_missing(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    drop_the_pooler(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    load(state(folder, pooling="cls"))


@pytest.mark.parametrize(
    ("stated", "sentence"),
    [
        ({"pooling": "average"}, "expected one of cls, mean, max, lasttoken"),
        ({"normalise": True}, r"embedding\.normalise=True; expected pooling"),
        ({"max_tokens": "many"}, "expected a number of tokens"),
        ({"matryoshka": 256}, "expected a list of widths"),
    ],
)
def test_what_sllm_json_states_is_checked(
    folder: Path, stated: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        load(state(folder, **stated))


def test_missing_model_names_the_setting(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"LOCAL_EMBEDDING_MODEL=.*does not exist"):
        load(tmp_path / "nothing")
    with pytest.raises(ConfigurationError, match="LOCAL_EMBEDDING_DEVICE='cuda:77'"):
        Embedder.load(tmp_path, "cuda:77")


def test_lines_say_what_is_loaded(folder: Path) -> None:
    shown = "\n".join(load(state(folder, pooling="cls", normalize=True)).lines())
    assert "32 dimensions, cls pooling, unit length, at most 64 tokens" in shown
