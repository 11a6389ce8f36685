"""Keeps a model's control tokens apart from text that happens to look like them.

A chat template marks its turns with control tokens (`[|endofturn|]`, `<|im_end|>`). Tokenizing the
rendered string as it is would also turn such a string inside a user's message into the control
token, and a document could end its turn and speak as the system. Here only what the template wrote
becomes control tokens; the same characters in a message are encoded as plain text.

How: occurrences inside messages are escaped before rendering; in the rendered string the template's
own markers are then replaced by secret names; the escapes are undone; and the string is encoded by
a twin of the tokenizer that knows the control tokens by their secret names only. The twin is the
same tokenizer otherwise, so ids are exactly those of the original wherever no message imitates a
control token.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterable, Mapping
from typing import Any

from tokenizers import Tokenizer

_PRIVATE_PLANE = 0x100000  # supplementary private use area B: no text means anything by it


class ControlTokens:
    """`control` maps each control token's text to its id."""

    def __init__(self, tokenizer: Tokenizer, control: Mapping[str, int]) -> None:
        salt = "".join(chr(_PRIVATE_PLANE + secrets.randbelow(0xFFF0)) for _ in range(4))
        self._secret = {
            text: f"{salt}{chr(_PRIVATE_PLANE + i)}" for i, text in enumerate(sorted(control))
        }
        characters = sorted(set("".join(control)))
        self._escaped = {
            character: f"{salt}{salt}{chr(_PRIVATE_PLANE + i)}"
            for i, character in enumerate(characters)
        }
        self._marker = _any_of(control)
        self._marker_start = re.compile(f"(?={self._marker.pattern}).", re.DOTALL)
        self._partial_end = _any_of(text[:n] for text in control for n in range(1, len(text)))
        self._partial_start = _any_of(text[n:] for text in control for n in range(1, len(text)))
        self._unescaped = {escape: character for character, escape in self._escaped.items()}
        self._escape = _any_of(self._unescaped)
        self._twin = _twin(tokenizer, self._secret)
        self.ids = dict(control)

    def escape(self, text: str) -> str:
        """Message text in a form that the template carries along and no marker can match.

        Also the beginnings and ends of markers at its edges are escaped, which template text could
        otherwise complete.
        """
        if not self.ids:
            return text
        positions = {match.start() for match in self._marker_start.finditer(text)}
        positions |= self._edges(text)
        if not positions:
            return text
        pieces = list(text)
        for position in positions:
            pieces[position] = self._escaped[pieces[position]]
        return "".join(pieces)

    def _edges(self, text: str) -> set[int]:
        start, end = len(text) - len(text.lstrip()), len(text.rstrip())
        found = set()
        if self._partial_start.match(text, start):
            found.add(start)
        longest = max(len(marker) for marker in self.ids)
        for position in range(max(start, end - longest), end):
            if self._partial_end.fullmatch(text, position, end):
                found.add(position)
        return found

    def encode(self, rendered: str) -> list[int]:
        """Ids of a rendered template whose messages went through `escape`."""
        secret = self._marker.sub(lambda match: self._secret[match[0]], rendered)
        return self.encode_text(self._escape.sub(lambda match: self._unescaped[match[0]], secret))

    def encode_text(self, text: str) -> list[int]:
        """Ids of plain text; never a control token."""
        ids: list[int] = self._twin.encode(text, add_special_tokens=False).ids
        return ids

    def markers(self, rendered: str) -> list[tuple[int, str]]:
        """Positions and texts of the control tokens in a rendered string."""
        return [(match.start(), match[0]) for match in self._marker.finditer(rendered)]


def _any_of(texts: Iterable[str]) -> re.Pattern[str]:
    """Matches the longest of `texts`; nothing when there are none."""
    ordered = sorted(set(texts), key=lambda text: (-len(text), text))
    return re.compile(f"(?:{'|'.join(map(re.escape, ordered))})" if ordered else r"(?!)")


def _twin(tokenizer: Tokenizer, names: Mapping[str, str]) -> Tokenizer:
    """The same tokenizer with `names`' keys renamed to its values, ids unchanged."""
    source: dict[str, Any] = json.loads(tokenizer.to_str())
    source.update(truncation=None, padding=None, post_processor=None)
    for added in source["added_tokens"]:
        if added["content"] in names:
            added.update(content=names[added["content"]], single_word=False, normalized=False)
    _rename_in_vocabulary(source["model"], names)
    twin: Tokenizer = Tokenizer.from_str(json.dumps(source))
    moved = [text for text, name in names.items() if _id(twin, name) != _id(tokenizer, text)]
    if moved:
        raise ValueError(f"control tokens {moved} changed their ids when they were renamed")
    return twin


def _id(tokenizer: Tokenizer, text: str) -> int | None:
    found: int | None = tokenizer.token_to_id(text)
    return found


def _rename_in_vocabulary(model: dict[str, Any], names: Mapping[str, str]) -> None:
    vocabulary = model["vocab"]
    if isinstance(vocabulary, list):
        model["vocab"] = [[names.get(text, text), score] for text, score in vocabulary]
        return
    model["vocab"] = {names.get(text, text): token for text, token in vocabulary.items()}
    if "merges" in model:
        model["merges"] = [
            merge
            for merge in model["merges"]
            if names.keys().isdisjoint(_parts(merge)) and "".join(_parts(merge)) not in names
        ]


def _parts(merge: str | list[str]) -> list[str]:
    return merge.split(" ") if isinstance(merge, str) else merge
