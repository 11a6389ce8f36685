"""Exports opened by their own runtime: llama.cpp quantises, reads and computes them.

llama-cpp-python lives in an environment of its own, which `make test-gguf` makes: `.venv-llama`, or
the Python that LLAMA_PYTHON names. Without one these tests are skipped.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

from finetune.export import modelfile, quantiser
from finetune.export.distance import Distance, distance
from finetune.export.formats import export
from finetune.export.merge import merge
from finetune.export.prompts import tokenised
from finetune.export.verify import logits
from provider.engine.chat import ChatTokenizer
from provider.engine.checkpoint import load
from tests.finetune.exporting import DEMO, write_model, write_peft
from tests.finetune.families import LLAMA3, QWEN2, SIZES, small

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def python() -> Path:
    """The interpreter of an environment with llama-cpp-python."""
    found = Path(os.environ.get("LLAMA_PYTHON") or ROOT / ".venv-llama" / "bin" / "python")
    if not found.exists():
        pytest.skip("no llama-cpp-python here; `make test-gguf` makes an environment with it")
    return found


def computed(python: Path, file: Path, asked: list[list[int]], scratch: Path) -> list[torch.Tensor]:
    """llama.cpp's logits."""
    (scratch / "prompts.json").write_text(json.dumps(asked))
    command: list[str | Path] = [
        python,
        quantiser.WORKER,
        "logits",
        file,
        scratch / "prompts.json",
        scratch / "l.npz",
    ]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-2000:]
    found = np.load(scratch / "l.npz")
    return [torch.from_numpy(found[str(number)]) for number in range(len(asked))]


def apart(python: Path, folder: Path, file: Path, scratch: Path) -> Distance:
    """llama.cpp's logits of `file` from transformers' of `folder`, both on the same prompts."""
    loaded = load(folder, "cpu", "fp32", progress=False)
    asked = [tokens[:400] for tokens in tokenised(loaded.tokenizer)]
    return distance(computed(python, file, asked, scratch), logits(loaded.model, asked))


@pytest.mark.parametrize(
    ("kind", "relative", "agreement"),
    [("f32", 0.005, 0.995), ("bf16", 0.02, 0.98), ("f16", 0.02, 0.98), ("q8_0", 0.03, 0.97),
     ("q4_k_m", 0.3, 0.75)],
)  # fmt: skip
def test_llama_cpp_computes_the_merged_model(
    python: Path, tmp_path: Path, kind: str, relative: float, agreement: float
) -> None:
    model = load(DEMO, "cpu", "fp32", progress=False).model
    adapter = write_peft(tmp_path / "a", model, lora_alpha=1)
    merge(DEMO, adapter, tmp_path / "m", layout="llama", progress=False)
    done = export(tmp_path / "m", tmp_path / "e", "gguf", kind, python)
    found = apart(python, tmp_path / "m", done.file, tmp_path)
    assert found.relative < relative
    assert found.agreement > agreement


def test_rope_factors_reach_llama_cpp(python: Path, tmp_path: Path) -> None:
    """Positions far beyond the original context, where unscaled frequencies are wrong."""
    write_model(tmp_path / "m", initializer_range=0.1)
    done = export(tmp_path / "m", tmp_path / "e", "gguf", "f32")
    tokens = [list(range(10, 410))]
    model = load(tmp_path / "m", "cpu", "fp32", progress=False).model
    wanted = logits(model, tokens)
    assert distance(computed(python, done.file, tokens, tmp_path), wanted).relative < 1e-3
    write_model(tmp_path / "plain", initializer_range=0.1, rope_scaling=None)
    unscaled = export(tmp_path / "plain", tmp_path / "f", "gguf", "f32")
    assert distance(computed(python, unscaled.file, tokens, tmp_path), wanted).relative > 0.01


@pytest.mark.parametrize(
    ("kind", "config", "pattern"),
    [(LlamaForCausalLM, LlamaConfig, LLAMA3), (Qwen3ForCausalLM, Qwen3Config, QWEN2)],
    ids=["llama", "qwen3"],
)
def test_other_families(python: Path, tmp_path: Path, kind: Any, config: Any, pattern: str) -> None:
    small(kind, config(**SIZES), tmp_path / "m", pattern)
    done = export(tmp_path / "m", tmp_path / "e", "gguf", "f32")
    assert apart(python, tmp_path / "m", done.file, tmp_path).relative < 5e-3


def test_llama_cpp_splits_text_as_the_tokenizer_does(python: Path, tmp_path: Path) -> None:
    done = export(DEMO, tmp_path / "e", "gguf", "q8_0")
    texts = [
        "거실 12.5㎡, 남향입니다.\n\n방 3개", "It's 2024 - don't  stop!", "日本語 ½ ٣ \t\r\n x",
        "[|system|]s[|endofturn|]\n[|user|]u\n[|assistant|]", '{"rooms":[{"area":24.50}]}',
    ]  # fmt: skip
    code = (
        "import json, sys, llama_cpp\n"
        "m = llama_cpp.Llama(sys.argv[1], vocab_only=True, verbose=False)\n"
        "texts = json.loads(sys.stdin.read())\n"
        "print(json.dumps([m.tokenize(t.encode(), add_bos=True, special=True) for t in texts]))"
    )
    command: list[str | Path] = [python, "-c", code, done.file]
    ran = subprocess.run(command, input=json.dumps(texts), capture_output=True, text=True)
    hf = ChatTokenizer.load(DEMO).hf
    assert json.loads(ran.stdout) == [hf(text)["input_ids"] for text in texts], ran.stderr


TALKS = [
    [{"role": "user", "content": "거실 <|x|> {{ .Role }}"}],
    [{"role": "system", "content": "s\n"}, {"role": "user", "content": " u "}],
    [
        {"role": "user", "content": "u"},
        {"role": "assistant", "content": "a"},
        {"role": "system", "content": ""},
        {"role": "user", "content": "v"},
    ],
]
GO = """package main
import ("encoding/json"; "io"; "os"; "text/template")
type Message struct { Role, Content string }
func main() {
    text, _ := os.ReadFile(os.Args[1])
    data, _ := io.ReadAll(os.Stdin)
    var messages []Message
    if json.Unmarshal(data, &messages) != nil { os.Exit(3) }
    found := template.Must(template.New("t").Parse(string(text)))
    if found.Execute(os.Stdout, map[string]any{"Messages": messages}) != nil { os.Exit(4) }
}
"""


@pytest.fixture(scope="module")
def go(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program that renders the Modelfile's template as Ollama does."""
    within = sorted(python.parent.parent.absolute().rglob("go/bin/go"))
    found = within[0] if within else shutil.which("go")
    if found is None:
        pytest.skip("no Go here to run Ollama's template language; `make test-gguf` brings one")
    compiler = str(found)
    folder = tmp_path_factory.mktemp("go")
    (folder / "main.go").write_text(GO)
    (folder / "t").write_text(modelfile.EXAONE)
    build = [compiler, "build", "-o", str(folder / "render"), str(folder / "main.go")]
    subprocess.run(build, check=True, cwd=folder, env={"HOME": str(folder), "PATH": os.defpath})
    return folder


@pytest.mark.parametrize("talk", TALKS)
def test_ollamas_template_writes_what_exaones_does(go: Path, talk: Any) -> None:
    ran = subprocess.run(
        [go / "render", go / "t"],
        input=json.dumps(talk),
        capture_output=True,
        text=True,
        check=True,
    )
    chat = ChatTokenizer.load(DEMO)
    assert ran.stdout == chat.hf.apply_chat_template(
        talk, tokenize=False, add_generation_prompt=True
    )
