"""The word lists of `words.json`, out of which prompts, values and sentences are generated."""

import json
from importlib import resources

_LISTS: dict[str, list[str]] = json.loads(
    resources.files("finetune.demo").joinpath("words.json").read_text(encoding="utf-8")
)
KOREAN_NOUNS = tuple(_LISTS["korean_nouns"])
KOREAN_NAMES = tuple(_LISTS["korean_names"])
ENGLISH_WORDS = tuple(_LISTS["english_words"])
KEYS = tuple(_LISTS["keys"])
