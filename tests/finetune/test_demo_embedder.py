"""The demo embedder: its sentences, its folder, and that training moves it."""

from pathlib import Path
from random import Random

import pytest
import torch
from sentence_transformers import SentenceTransformer

from finetune.demo.embedder import EmbedderRecipe, train_embedder
from finetune.demo.embedder_model import (
    DIMENSIONS,
    build_encoder,
    save_embedder,
    train_tokenizer,
    vectors,
)
from finetune.demo.sentences import (
    FRAMES,
    SEEN_FRAMES,
    SLOTS,
    UNSEEN_FRAMES,
    Meaning,
    heldout_pairs,
    paraphrase,
    random_meaning,
    say,
    training_pairs,
)

SENTENCES = ["거실에 햇빛이 들지 않습니다.", "Hello, 세계 123", "", "🙂 뷁"]


def test_a_meaning_can_be_said_in_every_way_of_its_frame() -> None:
    meaning = Meaning(0, (("city", 0), ("day", 1)))
    ways = [say(Random(0), meaning, way) for way in range(5)]
    assert len(set(ways)) == 5
    assert ways[4] == "What will the weather be like in Seoul tomorrow?"
    assert all("서울" in text for text in ways[:4])


def test_particles_follow_the_final_sound() -> None:
    text = {
        name: say(Random(0), Meaning(1, (("day", 0), ("product", at))), 0)
        for name, at in (("camera", 8), ("laptop", 0))
    }
    assert text["camera"].startswith(("산 카메라를", "산 사진기를"))
    assert text["laptop"].startswith(("산 노트북을", "산 랩톱을"))


@pytest.mark.parametrize("seed", range(20))
def test_paraphrases_differ_and_leave_no_gap(seed: int) -> None:
    random = Random(seed)
    first, second = paraphrase(random, random_meaning(random))
    assert first != second
    assert not set("{}/") & set(first + second)


def test_every_slot_of_every_frame_has_values() -> None:
    assert set(SEEN_FRAMES).isdisjoint(UNSEEN_FRAMES)
    assert len(SEEN_FRAMES) + len(UNSEEN_FRAMES) == len(FRAMES)
    assert all(len(forms) == 3 for values in SLOTS.values() for forms in values)


def test_the_data_is_seeded() -> None:
    assert training_pairs(1, 30) == training_pairs(1, 30)
    assert training_pairs(1, 30) != training_pairs(2, 30)
    assert len(set(heldout_pairs(100, UNSEEN_FRAMES))) == 100


def test_the_folder_is_a_sentence_transformers_folder(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(text for pair in training_pairs(0, 300) for text in pair)
    encoder = build_encoder(len(tokenizer), seed=0).eval()
    save_embedder(encoder, tokenizer, tmp_path)
    loaded = SentenceTransformer(str(tmp_path), device="cpu", model_kwargs={"dtype": torch.float32})
    assert loaded.get_embedding_dimension() == DIMENSIONS
    theirs = torch.tensor(loaded.encode(SENTENCES, normalize_embeddings=False))
    with torch.no_grad():
        ours = vectors(encoder, tokenizer, SENTENCES)
    torch.testing.assert_close(theirs, ours, atol=2e-3, rtol=0)
    torch.testing.assert_close(theirs.norm(dim=1), torch.ones(len(SENTENCES)))


def test_training_draws_paraphrases_together() -> None:
    recipe = EmbedderRecipe(steps=8, pairs=16, warm_up=2)
    data = training_pairs(0, recipe.steps * recipe.pairs)
    tokenizer = train_tokenizer(text for pair in data for text in pair)
    encoder = build_encoder(len(tokenizer), seed=0)
    first, second = (list(side) for side in zip(*data[:32], strict=True))

    def margin() -> float:
        with torch.no_grad():
            encoder.eval()
            cosines = vectors(encoder, tokenizer, first) @ vectors(encoder, tokenizer, second).T
        return float(cosines.diagonal().mean() - cosines.mean())

    before = margin()
    train_embedder(encoder, tokenizer, data, recipe)
    assert margin() > before
