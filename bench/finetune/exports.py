"""What each export costs: distance of the logits from base and adapter, size, memory of merging.

    python -m bench.finetune.exports [--llama-python PYTHON] [--model FOLDER]

Two models: the demo checkpoint (or `--model`), whose rows of 192 llama.cpp cannot quantise to Q4_K,
and a random one in EXAONE's shape whose rows it can. Each gets one adapter; the reference is base
and adapter in fp32, through PEFT. Served in 4 bit, the reference is the base's NF4 values and the
adapter. The last table merges models of 0.2 and 0.9 GB in processes of their own, ours and PEFT's
`merge_and_unload` with `save_pretrained`: the greatest memory beyond the imports, and the time.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from bench.engine.adapter import write_adapter
from finetune.export.distance import distance
from finetune.export.formats import export
from finetune.export.merge import Into, merge
from finetune.export.nf4 import dequantise
from finetune.export.prompts import tokenised
from finetune.export.quantiser import WORKER
from finetune.export.verify import logits, with_peft
from provider.engine.checkpoint import load
from provider.engine.exaone import ExaoneConfig, ExaoneForCausalLM
from provider.engine.layout import Layout

DEMO = Path(__file__).parents[2] / "finetune" / "demo" / "artifacts" / "exaone-demo"
KINDS = ("f32", "bf16", "f16", "q8_0", "q6_k", "q5_k_m", "q4_k_m")
Logits = list[torch.Tensor]


def random_model(folder: Path, hidden: int, inner: int, layers: int) -> Path:
    """Random weights in EXAONE-3.5's shape, rope scaling included, with the demo's tokenizer."""
    demo = load(DEMO, "cpu", "fp32", progress=False)
    torch.manual_seed(0)
    stated: dict[str, Any] = {
        "vocab_size": 1536,
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_layers": layers,
        "num_attention_heads": hidden // 64,
        "num_key_value_heads": hidden // 256,
        "head_dim": 64,
        "max_position_embeddings": 32768,
        "tie_word_embeddings": True,
        "eos_token_id": 7,
        "rope_theta": 1e6,
        "rope_scaling": {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        },
    }
    model: Any = ExaoneForCausalLM(ExaoneConfig(**stated))
    model.to(torch.bfloat16).save_pretrained(folder)
    demo.tokenizer.hf.save_pretrained(folder)
    return folder


def add_adapter(folder: Path, model: Any, effect: float) -> Path:
    """An adapter of every linear layer, rank 16, whose B is scaled by `effect`."""
    torch.manual_seed(1)
    write_adapter(folder, model, 16)
    path = folder / "adapter_model.safetensors"
    stored = load_file(path)
    save_file({n: t * (effect if "lora_B" in n else 1.0) for n, t in stored.items()}, path)
    return folder


def llama(python: Path, file: Path, asked: list[list[int]], scratch: Path) -> Logits:
    (scratch / "prompts.json").write_text(json.dumps(asked))
    command = [str(python), str(WORKER), "logits", str(file), str(scratch / "prompts.json")]
    subprocess.run([*command, str(scratch / "l.npz")], check=True, capture_output=True)
    with np.load(scratch / "l.npz") as found:
        return [torch.from_numpy(found[str(number)]) for number in range(len(asked))]


def opened(folder: Path, **options: Any) -> Any:
    return load(folder, "cpu", "fp32", progress=False, **options)


def row(name: str, runtime: str, size: int, found: Logits, wanted: Logits) -> str:
    apart = distance(found, wanted)
    return (
        f"| {name} | {runtime} | {size / 1e6:,.1f} | {apart.largest:.3g} | {apart.mean:.2g} "
        f"| {apart.relative:.2g} | {apart.agreement:.1%} |"
    )


def table(base: Path, effect: float, python: Path | None, scratch: Path) -> Iterator[str]:
    """Lines of markdown for one model."""
    loaded = opened(base)
    asked = tokenised(loaded.tokenizer)
    plain = logits(loaded.model, asked)
    adapter = add_adapter(scratch / "adapter", loaded.model, effect)
    wanted = logits(with_peft(loaded.model, adapter), asked)
    weights = (base / "model.safetensors").stat().st_size
    yield "| format | runtime | MB | largest | mean | relative | same first choice |"
    yield "|---|---|---|---|---|---|---|"
    yield row("base alone, without the adapter", "transformers", weights, plain, wanted)
    ways: list[tuple[Layout, str]] = [("original", "fp32"), ("original", "bf16"), ("llama", "bf16")]
    for layout, dtype in ways:
        folder = scratch / f"{layout}-{dtype}"
        done = merge(base, adapter, folder, layout=layout, dtype=dtype, progress=False)
        found = logits(opened(folder).model, asked)
        yield row(f"merged, {layout}, {dtype}", "transformers", done.size, found, wanted)
    for kind in KINDS if python else ():
        out = export(scratch / "llama-bf16", scratch / kind, "gguf", kind, python)
        assert python is not None
        found = llama(python, out.file, asked, scratch)
        yield row(f"GGUF {kind.upper()}", "llama.cpp", out.size, found, wanted)
    yield from four_bit(base, adapter, asked, scratch)


def four_bit(base: Path, adapter: Path, asked: list[list[int]], scratch: Path) -> Iterator[str]:
    """What a model merged in each way is, once it is served in NF4 again, and unquantised."""
    loaded = opened(base, quantization="nf4")
    dequantise(loaded.model)
    wanted = logits(with_peft(loaded.model, adapter), asked)
    yield ""
    yield "| trained in 4 bit, merged | served in | relative | same first choice |"
    yield "|---|---|---|---|"
    places: list[Into] = ["original", "dequantised"]
    for into in places:
        folder = scratch / f"into-{into}"
        merge(base, adapter, folder, into=into, dtype="bf16", progress=False)
        for served in ("bf16", "nf4"):
            merged = opened(folder, quantization="nf4" if served == "nf4" else None)
            if served == "nf4":
                dequantise(merged.model)
            apart = distance(logits(merged.model, asked), wanted)
            yield f"| into {into} | {served} | {apart.relative:.2g} | {apart.agreement:.1%} |"


def measure(how: str, base: str, adapter: str, out: str) -> None:
    """Runs in a process of its own and prints MB and seconds."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from provider.engine.exaone import register

    register()
    status = Path("/proc/self/status")
    Path("/proc/self/clear_refs").write_text("5")
    before = _peak(status)
    started = time.perf_counter()
    if how == "ours":
        merge(base, Path(adapter), Path(out), progress=False)
    else:
        model = AutoModelForCausalLM.from_pretrained(base)
        summed: Any = PeftModel.from_pretrained(model, adapter)
        summed.merge_and_unload().save_pretrained(out)
    print(f"{(_peak(status) - before) / 1e3:.0f} {time.perf_counter() - started:.1f}")


def _peak(status: Path) -> int:
    """VmHWM in kB."""
    lines = status.read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1])


def memory(scratch: Path) -> Iterator[str]:
    yield "| merged in bf16 | how | MB beyond the imports | seconds |"
    yield "|---|---|---|---|"
    for layers in (2, 8):
        base = random_model(scratch / f"of-{layers}", 2048, 7168, layers)
        adapter = add_adapter(scratch / f"for-{layers}", opened(base).model, 1.0)
        size = (base / "model.safetensors").stat().st_size / 1e6
        found = {}
        for how in ("ours", "PEFT"):
            command = [sys.executable, "-m", "bench.finetune.exports", "measure", how]
            command += [str(base), str(adapter), str(scratch / f"{layers}-{how}")]
            ran = subprocess.run(command, check=True, capture_output=True, text=True)
            found[how] = [float(part) for part in ran.stdout.split()[-2:]]
            yield f"| {size:,.0f} MB | {how} | {found[how][0]:,.0f} | {found[how][1]:.1f} |"
        ratios = [found["PEFT"][index] / found["ours"][index] for index in (0, 1)]
        yield f"| {size:,.0f} MB | PEFT / ours | {ratios[0]:.1f} | {ratios[1]:.1f} |"


def main() -> None:
    given = argparse.ArgumentParser(description=__doc__)
    given.add_argument("--llama-python", type=Path)
    given.add_argument("--model", type=Path, default=DEMO)
    asked = given.parse_args()
    warnings.filterwarnings("ignore", category=FutureWarning)
    with tempfile.TemporaryDirectory() as folder:
        wide = random_model(Path(folder) / "wide", 768, 1792, 8)
        for name, model, effect in (("demo", asked.model, 3.0), ("random", wide, 5.0)):
            scratch = Path(folder) / name
            scratch.mkdir()
            print(f"\n{name}: {model.name}")
            for line in table(model, effect, asked.llama_python, scratch):
                print(line, flush=True)
        print()
        for line in memory(Path(folder)):
            print(line, flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["measure"]:
        measure(*sys.argv[2:])
    else:
        main()
