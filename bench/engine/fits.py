"""Whether a model fits: every term of its memory, computed from its config; nothing is loaded.

    python -m bench.engine.fits [--config FOLDER] [--tokens 4096] [--quantization nf4] [--gb 6]

Without `--config`, the published shape of EXAONE-3.5-2.4B-Instruct. Exits 1 if it does not fit.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import torch
from transformers import AutoConfig

from bench.engine.checkpoint import ROPE
from provider.engine.exaone import ExaoneConfig, register
from provider.engine.footprint import footprint

EXAONE_24B: dict[str, Any] = {
    "vocab_size": 102_400,
    "hidden_size": 2560,
    "intermediate_size": 7168,
    "num_layers": 30,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 32_768,
    "rope_scaling": ROPE,
    "tie_word_embeddings": True,
}


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--config")
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--quantization", choices=["none", "nf4", "int8"], default="nf4")
    parser.add_argument("--gb", type=float, default=6.0)
    options = parser.parse_args()
    register()
    config = (
        AutoConfig.from_pretrained(options.config, local_files_only=True)
        if options.config
        else ExaoneConfig(**EXAONE_24B)
    )
    found = footprint(config, torch.bfloat16, options.quantization, tokens=options.tokens)
    print("\n".join(found.lines()))
    fits = found.total <= options.gb * 1e9
    print(f"{'fits' if fits else 'does not fit'} in {options.gb:g} GB")
    return int(not fits)


if __name__ == "__main__":
    sys.exit(main())
