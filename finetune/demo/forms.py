"""Small forms: JSON of any shape, filled from the prompt or honestly left unknown.

A checkpoint that knew floor plans only would run on and on under any other schema. Here it learns
to copy the values that the prompt names and to write "unknown", 0, false or [] for the rest, and to
close what it opens. The keys are given by the schema when it is served, so they carry no loss here.
"""

from random import Random
from typing import Any

from finetune.demo.chat import SYSTEMS, Message, random_text
from finetune.demo.words import ENGLISH_WORDS, KEYS, KOREAN_NAMES, KOREAN_NOUNS, random_word
from provider.protocol.serial import dumps

UNKNOWN_KO = "알 수 없음"
UNKNOWN_EN = "unknown"
_SYSTEMS = (*SYSTEMS, "Answer in JSON.", "Extract the fields as JSON.", "JSON으로 답하세요.")


def random_form(random: Random) -> tuple[list[Message], str]:
    """Messages whose last names some values, and the JSON object that holds them."""
    korean = random.random() < 0.5
    keys = random.sample(KEYS, random.randint(1, 6))
    told = random.choice((0.0, 0.7, 1.0, 1.0))
    facts: list[str] = []
    form: dict[str, Any] = {}
    for key in keys:
        value = _value(random, korean)
        if random.random() < told:
            facts.append(_fact(random, key, value))
        else:
            value = _unknown(value, korean)
        form[key] = value
    random.shuffle(facts)
    if len(form) > 2 and random.random() < 0.3:
        inner = dict(list(form.items())[1:])
        form = {keys[0]: form[keys[0]], random.choice(KEYS): inner}
    prose = [random_text(random, korean)] if not facts or random.random() < 0.5 else []
    messages = [{"role": "user", "content": " ".join([*prose, ", ".join(facts)]).strip()}]
    if random.random() < 0.6:
        messages.insert(0, {"role": "system", "content": random.choice(_SYSTEMS)})
    return messages, dumps(form)


def _value(random: Random, korean: bool) -> Any:
    words = KOREAN_NOUNS + KOREAN_NAMES if korean else ENGLISH_WORDS
    return random.choice(
        (
            lambda: random_word(random, korean, words),
            lambda: random_word(random, korean, words),
            lambda: f"{random_word(random, korean, words)} {random_word(random, korean, words)}",
            lambda: random.randint(0, 10 ** random.randint(1, 5)),
            lambda: round(random.uniform(0, 100), random.randint(1, 2)),
            lambda: random.random() < 0.5,
            lambda: [random_word(random, korean, words) for _ in range(random.randint(1, 4))],
        )
    )()


def _fact(random: Random, key: str, value: Any) -> str:
    text = (
        ", ".join(value)
        if isinstance(value, list)
        else value
        if isinstance(value, str)
        else dumps(value)
    )
    return random.choice((f"{key}: {text}", f"{key}={text}", f"{key} {text}", f"{key} is {text}"))


def _unknown(value: Any, korean: bool) -> Any:
    if isinstance(value, bool):
        return False
    if isinstance(value, str):
        return UNKNOWN_KO if korean else UNKNOWN_EN
    return [] if isinstance(value, list) else 0
