"""Keys of other trainers: what they are here, or why they are not."""

from __future__ import annotations

import pytest

from finetune.train.config import TrainConfig, parse_config
from finetune.train.elsewhere import _THEIRS, _WHY, unknown_key
from provider.errors import ConfigurationError

NEEDED = {"base": "b", "data": "d", "output": "o"}


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("lora_r", "did you mean 'r'?"),
        ("cutoff_len", "did you mean 'max_length'?"),
        ("base_model", "did you mean 'base'?"),
        ("micro_batch_size", "did you mean 'batch_size'?"),
        ("save_total_limit", "did you mean 'keep'?"),
        ("early_stopping_patience", "did you mean 'patience'?"),
        ("early_stoping_patience", "did you mean 'patience'?"),
        ("max_lenght", "did you mean 'max_length'?"),
        ("use_dora", "DoRA's norms do not allow"),
        ("neftune_noise_alpha", "NEFTune"),
        ("train_on_inputs", "only what an assistant wrote is learnt"),
        ("load_best_model_at_end", "the best state becomes the adapter"),
        ("zebra", "known are base, revision, data"),
    ],
)
def test_a_key_of_another_trainer_is_told_what_it_is_here(key: str, said: str) -> None:
    assert said in unknown_key(key, TrainConfig.model_fields)


def test_the_table_is_about_keys_that_exist_and_each_name_stands_once() -> None:
    known = set(TrainConfig.model_fields)
    assert set(_THEIRS.values()) <= known
    assert not known & (set(_THEIRS) | set(_WHY))
    assert not set(_THEIRS) & set(_WHY)


@pytest.mark.parametrize("value", ["all-linear", ["all-linear"], "all", ["all"]])
def test_all_layers_have_pefts_name_too(value: object) -> None:
    assert parse_config({**NEEDED, "target_modules": value}).target_modules == ["all"]
    assert parse_config({**NEEDED, "target_modules": "q_proj"}).target_modules == ["q_proj"]


def test_a_rate_without_a_dot_is_a_number() -> None:
    assert parse_config({**NEEDED, "learning_rate": "2e-4"}).learning_rate == 2e-4  # YAML's text


def test_a_sweeps_file_is_told_where_it_belongs() -> None:
    with pytest.raises(ConfigurationError, match="is a sweep's file; run it by `sllm finetune sw"):
        parse_config({"train": NEEDED, "vary": {"r": [1]}})
