"""The word lists of `words.json`, out of which prompts, values and sentences are generated."""

import json
from importlib import resources
from random import Random

_LISTS: dict[str, list[str]] = json.loads(
    resources.files("finetune.demo").joinpath("words.json").read_text(encoding="utf-8")
)
KOREAN_NOUNS = tuple(_LISTS["korean_nouns"])
KOREAN_NAMES = tuple(_LISTS["korean_names"])
ENGLISH_WORDS = tuple(_LISTS["english_words"])
KEYS = tuple(_LISTS["keys"])


def random_word(random: Random, korean: bool, words: tuple[str, ...]) -> str:
    """A word of the list, or with one chance in four letters that spell nothing."""
    if random.random() < 0.75:
        return random.choice(words)
    if korean:
        return "".join(chr(random.randint(0xAC00, 0xD7A3)) for _ in range(random.randint(1, 3)))
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    return "".join(random.choice(letters) for _ in range(random.randint(2, 8)))
