"""The demo tokenizer: any text round-trips, and the grammar lets every right answer through."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llguidance import LLMatcher
from llguidance.hf import from_tokenizer
from transformers import PreTrainedTokenizerFast

from finetune.demo.corpus import heldout_plans, training_samples
from finetune.demo.decode import grammar
from finetune.demo.plans import LETTERS
from finetune.demo.schema import floorplan_schema
from finetune.demo.tokenizer import KEY_RUNS, VOCABULARY, load_tokenizer, row_marks, train_tokenizer
from provider.engine.exaone import CHAT_TEMPLATE


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerFast:
    folder: Path = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(training_samples(0, 600)).save_pretrained(folder)
    return load_tokenizer(folder)


def test_special_tokens_and_template_are_exaones(tokenizer: PreTrainedTokenizerFast) -> None:
    assert len(tokenizer) == VOCABULARY
    assert tokenizer.convert_tokens_to_ids(["[PAD]", "[BOS]"]) == [0, 1]
    assert tokenizer.eos_token == "[|endofturn|]"
    assert tokenizer.chat_template == CHAT_TEMPLATE
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "안녕"}], add_generation_prompt=True, tokenize=False
    )
    assert text == "[|system|][|endofturn|]\n[|user|]안녕\n[|assistant|]"


def test_digits_stand_alone(tokenizer: PreTrainedTokenizerFast) -> None:
    assert tokenizer.tokenize("12.45") == ["1", "2", ".", "4", "5"]


def test_the_letters_that_name_spaces_are_tokens(tokenizer: PreTrainedTokenizerFast) -> None:
    assert tokenizer.decode(row_marks(tokenizer)) == LETTERS


def test_no_key_run_reaches_past_an_opening_bracket() -> None:
    assert not [run for run in KEY_RUNS if "[" in run or "{" in run[1:]]


@given(text=st.text())
@settings(deadline=None)
def test_any_text_round_trips(text: str) -> None:
    tokens = _CORE.encode(text, add_special_tokens=False)
    assert _CORE.decode(tokens, skip_special_tokens=False) == text


_CORE = train_tokenizer(training_samples(0, 50))


def test_the_grammar_admits_the_training_spelling_of_every_answer(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    vocabulary, rules = from_tokenizer(tokenizer), grammar(floorplan_schema())
    for sample in heldout_plans(30):
        matcher = LLMatcher(vocabulary, rules)
        for token in tokenizer.encode(sample.answer, add_special_tokens=False):
            allowed = matcher.compute_logit_bias()
            assert allowed[token], tokenizer.decode([token])
            matcher.consume_token(token)
        assert matcher.is_accepting()


def test_a_schema_that_cannot_be_enforced_is_refused() -> None:
    with pytest.raises(ValueError, match="uniqueItems"):
        grammar({"type": "array", "items": {"type": "integer"}, "uniqueItems": True})
