"""The checkpoints that are served: the demo embedder, and one of KoSimCSE's shape (12 layers)."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

DEMO = Path("finetune/demo/artifacts/embedder-demo")
WORDS = """
방 거실 주방 욕실 현관 발코니 다용도실 침실 서재 창문 남향 북향 복도 계단 수납 아파트 평면도
room kitchen window door wall stair balcony garden light floor ceiling bath hall garage
""".split()  # noqa: SIM905 - a list of words reads as words


def demo(folder: Path) -> Path:
    """The demo embedder, with a tokenizer that transformers before 5 can read as well."""
    shutil.copytree(DEMO, folder)
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    path.write_text(json.dumps(config), encoding="utf-8")
    return folder


def base(folder: Path) -> Path:
    """RoBERTa-base's twelve layers with random weights over the demo's tokenizer: weights do not
    change the speed."""
    import torch
    from transformers import RobertaConfig, RobertaModel

    torch.manual_seed(0)
    demo(folder)
    (folder / "sllm.json").unlink()
    config = RobertaConfig.from_pretrained(DEMO)
    config.num_hidden_layers, config.intermediate_size = 12, 3072
    RobertaModel(config, add_pooling_layer=False).save_pretrained(folder)
    return folder


def texts(count: int) -> list[str]:
    """Search queries and sentences: 3 to 30 words, every text its own."""
    choose = random.Random(0)
    return [
        f"{number} " + " ".join(choose.choices(WORDS, k=choose.randint(3, 30)))
        for number in range(count)
    ]
