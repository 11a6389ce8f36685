"""Merging: the sum itself, every kind of adapter, both layouts, and what a broken run leaves."""

from __future__ import annotations

import json
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from peft import PeftModel
from safetensors.torch import load_file, save_file

from finetune.export.cli import merge as merge_command
from finetune.export.merge import merge
from finetune.export.nf4 import round_trip
from finetune.export.whole import written_whole
from provider.engine.checkpoint import load
from provider.engine.convert import convert
from provider.engine.weights import INDEX, weight_files
from provider.errors import ConfigurationError
from tests.finetune.exporting import PROMPTS, logits, manifest, write_model, write_peft

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning"),  # PEFT's
    pytest.mark.filterwarnings("ignore:Model has .tie_word_embeddings:UserWarning"),
]


def opened(folder: Path, **options: Any) -> Any:
    return load(folder, device="cpu", dtype="fp32", progress=False, **options)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("export") / "tiny", max_shard_size="200KB")


@pytest.fixture(scope="module")
def adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_peft(tmp_path_factory.mktemp("adapters") / "plain", opened(base).model)


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for name in weight_files(folder):
        found |= load_file(folder / name)
    return found


def deltas(adapter: Path) -> dict[str, torch.Tensor]:
    """What a plain adapter (alpha 8, rank 4) adds, in double precision, by weight name."""
    stored = load_file(adapter / "adapter_model.safetensors")
    names = {name.split(".lora_")[0] for name in stored}
    return {
        f"{name.removeprefix('base_model.model.')}.weight": 2.0
        * stored[f"{name}.lora_B.weight"].double()
        @ stored[f"{name}.lora_A.weight"].double()
        for name in names
    }


def furthest(folder: Path, base: Path, adapter: Path) -> float:
    """Largest distance of the merged model's logits from PEFT's, relative to the largest logit."""
    merged, loaded = opened(folder), opened(base)
    adapted = PeftModel.from_pretrained(loaded.model, adapter).eval()
    worst = 0.0
    for messages in PROMPTS:
        tokens = loaded.tokenizer.encode_chat(messages)
        wanted = logits(adapted, tokens)
        assert (wanted - logits(opened(base).model, tokens)).abs().max() > 1.0
        worst = max(worst, float((logits(merged.model, tokens) - wanted).abs().max()))
    return worst / float(wanted.abs().max())


def test_each_sum_is_rounded_once_and_the_rest_is_untouched(
    base: Path, adapter: Path, tmp_path: Path
) -> None:
    merge(base, adapter, tmp_path / "m", progress=False)
    before, after, added = tensors(base), tensors(tmp_path / "m"), deltas(adapter)
    assert before.keys() == after.keys()
    assert len(added) == 21
    for name, old in before.items():
        assert after[name].dtype == torch.bfloat16
        if name not in added:
            assert torch.equal(after[name], old)
            continue
        exact = old.double() + added[name]
        half_a_step = exact.abs() * 2.0**-8 + 1e-30
        assert bool(((after[name].double() - exact).abs() <= half_a_step * 1.001).all()), name


def test_the_shards_and_their_index_are_the_bases(
    base: Path, adapter: Path, tmp_path: Path
) -> None:
    merge(base, adapter, tmp_path / "m", progress=False)
    assert len(weight_files(base)) > 1
    assert weight_files(tmp_path / "m") == weight_files(base)
    stated, made = (json.loads((f / INDEX).read_text()) for f in (base, tmp_path / "m"))
    assert made["weight_map"] == stated["weight_map"]
    for name in ("tokenizer.json", "chat_template.jinja", "generation_config.json"):
        assert (tmp_path / "m" / name).read_bytes() == (base / name).read_bytes()


@pytest.mark.parametrize("layout", ["original", "llama"])
def test_the_merged_model_answers_as_base_and_adapter(
    base: Path, adapter: Path, tmp_path: Path, layout: Any
) -> None:
    merge(base, adapter, tmp_path / "m", layout=layout, dtype="fp32", progress=False)
    assert opened(tmp_path / "m").card.layout == layout
    assert furthest(tmp_path / "m", base, adapter) < 1e-5


@pytest.mark.parametrize(
    "config",
    [
        {"use_rslora": True},
        {"r": 8, "rank_pattern": {"q_proj": 2, r"h\.1\.mlp\.c_proj": 3}},
        {"alpha_pattern": {"c_fc_0": 32}, "use_rslora": True, "rank_pattern": {"c_fc_0": 16}},
        {"layers_to_transform": [1], "target_modules": ["q_proj", "c_proj"], "lora_alpha": 64},
        {"target_modules": ["lm_head", "q_proj"], "lora_alpha": 64},
    ],
    ids=["rslora", "ranks", "alphas", "layers", "head"],
)
def test_every_kind_of_adapter_is_added_by_its_own_scale(
    base: Path, tmp_path: Path, config: dict[str, Any]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.warn", lambda *a, **k: None)  # PEFT on tied heads
        adapter = write_peft(
            tmp_path / "a",
            opened(
                base,
            ).model,
            **config,
        )
        merge(base, adapter, tmp_path / "m", dtype="fp32", progress=False)
        assert furthest(tmp_path / "m", base, adapter) < 1e-5


def test_an_adapted_head_is_untied_and_the_embeddings_stay(base: Path, tmp_path: Path) -> None:
    adapter = write_peft(tmp_path / "a", opened(base).model, target_modules=["lm_head"])
    done = merge(base, adapter, tmp_path / "m", progress=False)
    made = tensors(tmp_path / "m")
    assert json.loads((tmp_path / "m" / "config.json").read_text())["tie_word_embeddings"] is False
    assert torch.equal(made["transformer.wte.weight"], tensors(base)["transformer.wte.weight"])
    assert not torch.equal(made["lm_head.weight"], made["transformer.wte.weight"])
    assert "two tensors" in "\n".join(done.lines(tmp_path))


def test_an_adapter_of_the_other_layout_gives_the_same_bytes(
    base: Path, adapter: Path, tmp_path: Path
) -> None:
    convert(adapter, tmp_path / "renamed", "llama", progress=False)
    merge(base, adapter, tmp_path / "one", progress=False)
    merge(base, tmp_path / "renamed", tmp_path / "two", progress=False)
    one, two = tensors(tmp_path / "one"), tensors(tmp_path / "two")
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_dequantised_adds_to_what_four_bit_serving_computes_with(
    base: Path, adapter: Path, tmp_path: Path
) -> None:
    done = merge(base, adapter, tmp_path / "m", into="dequantised", dtype="fp32", progress=False)
    before, after, added = tensors(base), tensors(tmp_path / "m"), deltas(adapter)
    for name, delta in added.items():
        wanted = round_trip(before[name]).double() + delta
        assert torch.allclose(after[name].double(), wanted, atol=1e-5), name
    wte = "transformer.wte.weight"
    assert torch.equal(after[wte], before[wte].float())
    assert "NF4" in "\n".join(done.lines(tmp_path))


def test_the_manifest_says_where_the_weights_come_from(
    base: Path, adapter: Path, tmp_path: Path
) -> None:
    shutil.copytree(adapter, tmp_path / "a")
    manifest(
        tmp_path / "a", base_model="x/tiny", licence="mit", name="floor", base_quantization="nf4"
    )
    done = merge(base, tmp_path / "a", tmp_path / "m", layout="llama", progress=False)
    told = json.loads((tmp_path / "m" / "merge.json").read_text())
    assert (told["base_model"], told["into"], told["layout"]) == ("tiny", "original", "llama")
    assert (told["adapter"], told["adapter_licence"]) == ("floor", "mit")
    assert told["adapter_config"]["r"] == 4
    assert "--into dequantised keeps" in "\n".join(done.lines(tmp_path))


def test_a_base_that_does_not_fit_lists_every_mismatch(adapter: Path, tmp_path: Path) -> None:
    other = write_model(tmp_path / "other", intermediate_size=128, num_layers=2)
    shutil.copytree(adapter, tmp_path / "a")
    manifest(tmp_path / "a", base_model="x/tiny", chat_template_sha256="0" * 64)
    ran = CliRunner().invoke(merge_command, [str(other), str(tmp_path / "a"), str(tmp_path / "m")])
    assert ran.exit_code == 1
    for part in ("base_model 'x/tiny'", "chat_template_sha256", "no place for its tensors",
                 "c_fc_0.lora_B has shape"):  # fmt: skip
        assert part in ran.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "other"]


def test_quantised_and_truncated_bases_are_refused(
    base: Path, adapter: Path, tmp_path: Path
) -> None:
    shutil.copytree(base, tmp_path / "q")
    config = json.loads((base / "config.json").read_text())
    (tmp_path / "q" / "config.json").write_text(
        json.dumps(config | {"quantization_config": {"a": 1}})
    )
    with pytest.raises(ConfigurationError, match="unquantised base"):
        merge(tmp_path / "q", adapter, tmp_path / "m")
    shutil.copytree(base, tmp_path / "t")
    file = tmp_path / "t" / weight_files(base)[0]
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ConfigurationError, match="truncated"):
        merge(tmp_path / "t", adapter, tmp_path / "m")
    cut = tmp_path / "cut"
    shutil.copytree(adapter, cut)
    (cut / "adapter_model.safetensors").write_bytes(b"\x10")
    with pytest.raises(ConfigurationError, match="truncated or damaged"):
        merge(base, cut, tmp_path / "m")


def test_weights_that_do_not_match_the_config_are_listed(
    base: Path, adapter: Path, tmp_path: Path
) -> None:
    shutil.copytree(base, tmp_path / "b")
    name = weight_files(base)[0]
    stored = load_file(base / name)
    stored["stranger"] = torch.zeros(1)
    save_file(stored, tmp_path / "b" / name)
    index = json.loads((base / INDEX).read_text())
    index["weight_map"]["stranger"] = name
    (tmp_path / "b" / INDEX).write_text(json.dumps(index))
    with pytest.raises(ConfigurationError, match="stranger has no place"):
        merge(tmp_path / "b", adapter, tmp_path / "m")


def test_too_large_for_fp16_is_said_and_leaves_nothing(base: Path, tmp_path: Path) -> None:
    adapter = write_peft(tmp_path / "a", opened(base).model, lora_alpha=10**9)
    with pytest.raises(ConfigurationError, match="--dtype bf16 or fp32"):
        merge(base, adapter, tmp_path / "m", dtype="fp16", progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_an_existing_destination_is_refused(base: Path, adapter: Path, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    with pytest.raises(ConfigurationError, match="exists"):
        merge(base, adapter, tmp_path / "m")
    (tmp_path / "l").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ConfigurationError, match="exists"):
        merge(base, adapter, tmp_path / "l")


def test_two_writers_of_one_destination(tmp_path: Path) -> None:
    with (
        written_whole(tmp_path / "m"),
        pytest.raises(ConfigurationError, match="another process"),
        written_whole(tmp_path / "m"),
    ):
        pass
    assert (tmp_path / "m").is_dir()


def test_a_full_disk_is_one_sentence(base: Path, adapter: Path, tmp_path: Path) -> None:
    with (
        pytest.raises(ConfigurationError, match="GiB free"),
        written_whole(tmp_path / "m", needed=10**18),
    ):
        pass
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        with pytest.raises(ConfigurationError, match="cannot be written"):
            merge(base, adapter, tmp_path / "m", progress=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir())


def test_killed_half_way_nothing_looks_complete_and_the_next_run_cleans_up(
    base: Path, adapter: Path, tmp_path: Path
) -> None:
    """The kernel kills the process within a write, as `kill -9` would: no handler runs."""
    killed = (
        "import resource, signal, sys\n"
        "from finetune.export.cli import merge\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_DFL)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, resource.RLIM_INFINITY))\n"
        "merge(sys.argv[1:])\n"
    )
    command = [sys.executable, "-c", killed, str(base), str(adapter), str(tmp_path / "m")]
    ran = subprocess.run(command, capture_output=True, cwd=Path(__file__).parents[2])
    assert ran.returncode == -signal.SIGXFSZ, ran.stderr
    assert [path.name for path in tmp_path.iterdir()] == [".m.partial"]
    assert not (tmp_path / ".m.partial" / "config.json").exists()
    merge(base, adapter, tmp_path / "m", progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["m"]
    opened(tmp_path / "m")
