"""The one JSON serialisation.

Training data, prompts, constraints and evaluation must agree on white space and key order: a small
model decoded under separators that it was not trained on loses most of what it knows. So every part
that writes JSON for a model, or constrains what a model writes, takes the form from here.

Compact (``,`` and ``:`` without spaces), keys in the order of the schema, text as it is (not
escaped to ASCII), and no NaN or infinities, which JSON does not have.
"""

import json
from typing import Any

ITEM_SEPARATOR = ","
KEY_SEPARATOR = ":"


def dumps(value: Any) -> str:
    """Write `value` as compact JSON. Raises ValueError for NaN and infinities."""
    return json.dumps(
        value,
        ensure_ascii=False,
        allow_nan=False,
        separators=(ITEM_SEPARATOR, KEY_SEPARATOR),
    )
