"""Whether a merged model computes what base and adapter compute together.

PEFT adds the adapter in one model, our files hold the sum in the other; both read the same prompts.
How far rounding alone takes a model is measured beside it, on PEFT's own sum rounded in memory, so
that the verdict needs no guess about models of another depth. One model is in memory at a time.
"""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from finetune.export.distance import Distance, distance
from finetune.export.nf4 import dequantise
from finetune.export.prompts import tokenised
from finetune.export.tensors import DTYPES, stored_tensors
from provider.engine.checkpoint import Checkpoint, load
from provider.engine.convert import convert
from provider.engine.device import DType
from provider.engine.layout import layout_of
from provider.engine.lora import linear_shapes, read_adapter
from provider.engine.model_card import read_json
from provider.engine.repository import resolve
from provider.engine.weights import read_file_headers
from provider.errors import ConfigurationError

RELATIVE, AGREEMENT = 0.05, 0.95
"""Further than this, a model answers differently, whatever the cause."""
MARGIN, NOTHING = 1.5, 1e-4
"""Times what rounding alone costs, and the distance that is none at all."""
_SHORT = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32"}


@dataclass(frozen=True)
class Verdict:
    """Distances from base with adapter: of the `merged` model, of PEFT's own sum `rounded` to the
    same precision in memory, and of the `base` alone. `dtype` is that of the merged weights."""

    merged: Distance
    rounded: Distance
    base: Distance
    dtype: str
    four_bit: bool

    @property
    def share(self) -> float:
        """Of the adapter's effect that is missing or wrong in the merged model."""
        return self.merged.relative / self.base.relative if self.base.relative else float("inf")

    @property
    def problems(self) -> list[str]:
        return [text for holds, text in self._checks() if holds]

    def _checks(self) -> list[tuple[bool, str]]:
        merged, rounded = self.merged, self.rounded.relative
        exact = merged.relative <= MARGIN * rounded + NOTHING
        return [
            (
                self.base.relative <= 10 * NOTHING,
                f"the adapter moves the logits by only {self.base.relative:.2g}, so that these "
                "prompts cannot tell; give --prompts that it was trained for",
            ),
            (
                not exact,
                f"it is {merged.relative:.2g} away where rounding to {self.dtype} costs "
                f"{rounded:.2g}; it was not made from this base and adapter",
            ),
            (
                exact and (merged.relative > RELATIVE or merged.agreement < AGREEMENT),
                f"the sum is right, but {self.dtype} is too coarse for it (relative "
                f"{merged.relative:.2g}, {merged.agreement:.1%} same first choices); merge with "
                "--dtype fp32, or serve base and adapter",
            ),
        ]

    @property
    def passed(self) -> bool:
        return not self.problems

    def lines(self) -> list[str]:
        """For a terminal."""
        reference = "the base's NF4 values + adapter" if self.four_bit else "base + adapter"
        told = [
            f"{'':<18}{'merged':>12}{f'{self.dtype} rounding':>16}{'base alone':>12}",
            self._row("largest distance", "largest", ".4g"),
            self._row("mean distance", "mean", ".4g"),
            self._row("relative", "relative", ".4g"),
            self._row("same first choice", "agreement", ".2%"),
            f"Logits against {reference}, {self.merged.positions:,} positions; the distance is "
            f"{self.share:.2%} of what the adapter does.",
        ]
        verdict = "the merged model computes what base and adapter compute together"
        return [*told, f"PASS: {verdict}" if self.passed else f"FAIL: {'; '.join(self.problems)}"]

    def _row(self, title: str, name: str, shown: str) -> str:
        one, two, three = (getattr(d, name) for d in (self.merged, self.rounded, self.base))
        return f"{title:<18}{one:>12{shown}}{two:>16{shown}}{three:>12{shown}}"


def verify(
    base: str | Path,
    adapter: Path,
    merged: Path,
    *,
    prompts: Path | None = None,
    device: str = "auto",
    dtype: DType = "fp32",
) -> Verdict:
    """Compare the three; `ConfigurationError` when one of them does not load or fit.

    A model that says it was merged into dequantised weights is compared with the base's NF4 values.
    """
    merged = resolve(merged, setting="MERGED")
    four_bit, stored = _into(merged) == "dequantised", _stored_dtype(merged)
    with tempfile.TemporaryDirectory() as scratch:
        loaded = _load(base, device, dtype, "nf4" if four_bit else None, "BASE")
        read_adapter(adapter, loaded)  # refuses what does not fit, and says all of it
        if four_bit:
            dequantise(loaded.model)  # the values without the 4-bit kernels' own rounding
        asked = tokenised(loaded.tokenizer, prompts)
        ours = _in_layout_of(loaded.model, adapter, Path(scratch))
        plain = logits(loaded.model, asked)
        wanted, rounded = _with_adapter(loaded.model, ours, asked, stored)
    del loaded
    gc.collect()
    model = _load(merged, device, dtype, None, "MERGED").model
    width = int(model.config.get_text_config().vocab_size)
    if width != wanted[0].shape[1]:
        raise ConfigurationError(
            f"{merged} has {width} logits, {base} {wanted[0].shape[1]}; "
            "expected a model merged from this base."
        )
    found = logits(model, asked)
    apart = [distance(each, wanted) for each in (found, rounded, plain)]
    return Verdict(apart[0], apart[1], apart[2], _SHORT.get(stored, str(stored)), four_bit)


def _into(merged: Path) -> str | None:
    path = merged / "merge.json"
    return read_json(path).get("into") if path.is_file() else None


def _load(
    path: str | Path, device: str, dtype: DType, quantization: Any, setting: str
) -> Checkpoint:
    return load(path, device, dtype, quantization, progress=False, setting=setting)


def _stored_dtype(folder: Path) -> torch.dtype:
    """Of the largest tensor."""
    return DTYPES[max(stored_tensors(folder).values(), key=lambda stored: stored.size).dtype]


def _in_layout_of(model: Any, adapter: Path, scratch: Path) -> Path:
    stored = layout_of(read_file_headers(adapter / "adapter_model.safetensors"))
    ours = layout_of(linear_shapes(model))
    if stored and ours and stored != ours:
        return convert(adapter, scratch / "renamed", ours, progress=False)
    return adapter


def _with_adapter(
    model: Any, adapter: Path, asked: Sequence[Sequence[int]], stored: torch.dtype
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Logits with the adapter, and with PEFT's own sum rounded to `stored`."""
    adapted = with_peft(model, adapter)
    wanted = logits(adapted, asked)
    summed = adapted.merge_and_unload()
    for parameter in summed.parameters():
        parameter.data = parameter.data.to(stored).to(parameter.dtype)
    return wanted, logits(summed, asked)


def with_peft(model: Any, adapter: Path) -> Any:
    import warnings

    from peft import PeftModel

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning)  # of transformers, about PEFT
        warnings.filterwarnings("ignore", message="Model has `tie_word_embeddings")
        return PeftModel.from_pretrained(model, str(adapter)).eval()


def logits(model: Any, asked: Sequence[Sequence[int]]) -> list[torch.Tensor]:
    found = []
    with torch.inference_mode():
        for tokens in asked:
            given = torch.tensor([list(tokens)], device=model.device)
            found.append(model(given, use_cache=False).logits[0].float().cpu())
    return found
