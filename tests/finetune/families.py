"""Small models of other families than EXAONE, with a tokenizer that splits text as theirs do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from tests.finetune.exporting import tokenizer

SIZES: dict[str, Any] = {
    "vocab_size": 512, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "eos_token_id": 5,
    "initializer_range": 0.3,
}  # fmt: skip
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")


def small(kind: Any, config: Any, folder: Path, pattern: str) -> Path:
    """A model of another family, whose tokenizer splits by `pattern`."""
    torch.manual_seed(0)
    kind(config).to(torch.bfloat16).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    stated = json.loads((folder / "tokenizer.json").read_text())
    stated["pre_tokenizer"]["pretokenizers"] = [
        {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False},
        {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False},
    ]
    text = json.dumps(stated).replace("[|endofturn|]", "<|im_end|>")
    (folder / "tokenizer.json").write_text(text.replace("[|system|]", "<|im_start|>"))
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings["eos_token"] = "<|im_end|>"
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "chat_template.jinja").write_text(
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
        "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    return folder
