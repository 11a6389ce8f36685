"""Sentences that say the same in other words: the data of the demo embedder.

A meaning is a frame with its slots filled. It can be said in several ways (plain and honorific,
question and statement, other word order, synonyms, now and then English); two ways of saying it are
a paraphrase, two meanings are strangers, the more alike the more slots they share.
"""

import json
import re
from dataclasses import dataclass
from importlib import resources
from random import Random
from typing import Any

from finetune.demo.words import ENGLISH_WORDS, KOREAN_NAMES, KOREAN_NOUNS, random_word

_DATA: dict[str, Any] = json.loads(
    resources.files("finetune.demo").joinpath("sentences.json").read_text(encoding="utf-8")
)
SLOTS: dict[str, list[list[str]]] = _DATA["slots"]
FRAMES: list[dict[str, Any]] = _DATA["frames"]
UNSEEN_FRAMES = tuple(range(4, len(FRAMES), 8))
"""Topics that training never meets; the rest are trained on."""
SEEN_FRAMES = tuple(index for index in range(len(FRAMES)) if index not in UNSEEN_FRAMES)

_SLOT = re.compile(r"\{(\w+)\}")
_PARTICLE = re.compile(r"(.)(을/를|이/가|은/는|과/와)")


@dataclass(frozen=True)
class Meaning:
    """A frame and which value stands in each of its slots."""

    frame: int
    values: tuple[tuple[str, int], ...]


def random_meaning(random: Random, frames: tuple[int, ...] = SEEN_FRAMES) -> Meaning:
    frame = random.choice(frames)
    names = sorted(set(_SLOT.findall(FRAMES[frame]["korean"][0])))
    return Meaning(frame, tuple((name, random.randrange(len(SLOTS[name]))) for name in names))


def say(random: Random, meaning: Meaning, way: int) -> str:
    """One way of saying it: 0 to 3 are Korean, 4 is English. Synonyms are drawn."""
    frame, values = FRAMES[meaning.frame], dict(meaning.values)
    english = way == len(frame["korean"])
    template = frame["english"] if english else frame["korean"][way]

    def fill(match: re.Match[str]) -> str:
        korean, other, foreign = SLOTS[match[1]][values[match[1]]]
        return foreign if english else random.choice((korean, korean, other))

    return _PARTICLE.sub(_particle, _SLOT.sub(fill, template))


def paraphrase(random: Random, meaning: Meaning, english: float = 0.15) -> tuple[str, str]:
    """Two different ways of saying `meaning`; one of them is English with that chance."""
    first, second = random.sample(range(4), 2)
    if random.random() < english:
        second = 4
    return say(random, meaning, first), say(random, meaning, second)


def shuffled_words(random: Random) -> tuple[str, str]:
    """Two texts of mostly the same words, known or invented, in another order.

    Sentences about what no frame covers have at least their words in common.
    """
    korean = random.random() < 0.6
    words = KOREAN_NOUNS + KOREAN_NAMES if korean else ENGLISH_WORDS
    shared = [random_word(random, korean, words) for _ in range(random.randint(2, 6))]
    texts = []
    for _ in range(2):
        kept = [word for word in shared if len(shared) < 4 or random.random() < 0.85]
        kept = kept + [random_word(random, korean, words) for _ in range(random.randint(0, 1))]
        random.shuffle(kept)
        texts.append(" ".join(kept or shared))
    return texts[0], texts[1]


def training_pairs(seed: int, count: int) -> list[tuple[str, str]]:
    """Paraphrases, and one in five times shuffled words."""
    pairs = []
    for index in range(count):
        random = Random(f"sentences/{seed}/{index}")
        words = random.random() < 0.2
        pairs.append(
            shuffled_words(random) if words else paraphrase(random, random_meaning(random))
        )
    return pairs


def heldout_pairs(count: int, frames: tuple[int, ...]) -> list[tuple[str, str]]:
    """Korean paraphrases of `count` distinct meanings that no training seed draws in this order."""
    random, meanings = Random(f"heldout/{frames}"), dict[Meaning, None]()
    while len(meanings) < count:
        meanings[random_meaning(random, frames)] = None
    return [paraphrase(random, meaning, english=0.0) for meaning in meanings]


def _particle(match: re.Match[str]) -> str:
    """The form of a particle that follows a final consonant, or the other one."""
    letter, forms = match[1], match[2].split("/")
    final = "가" <= letter <= "힣" and (ord(letter) - ord("가")) % 28 > 0
    return letter + forms[0 if final else 1]
