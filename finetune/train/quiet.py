"""What the libraries would print, before they are imported."""

from __future__ import annotations

import logging
import os
import warnings


def quiet() -> None:
    """Warnings that no user can act on are left out."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    for name in ("bitsandbytes", "transformers.modeling_utils", "transformers.trainer"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"(torch|transformers|trl|peft|accelerate)\.")
