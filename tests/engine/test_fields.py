"""Guesses at JSON values: the right record, keys by other names, and any bytes without an error."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from provider.engine.drafts import Drafter
from provider.engine.fields import Fields
from provider.engine.habits import Habits

BYTES = [bytes([value]) for value in range(256)]
"""A vocabulary of single bytes."""

ROOMS = [
    {"id": "a", "kind": "욕실", "windows": 0, "area": 4.1},
    {"id": "b", "kind": "침실", "windows": 1, "area": 15.2},
    {"id": "c", "kind": "욕실", "windows": 2, "area": 3.4},
]


def text(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def guessed(prompt: bytes, written: bytes, names: dict[bytes, bytes] | None = None) -> bytes:
    """What the fields alone expect after `written`, byte by byte."""
    fields, names = Fields(list(prompt), BYTES), {} if names is None else names
    for token in written:
        fields.feed(fields.place, token, names, drawn=True)
    place, found = fields.place.copy(), b""
    while (following := fields.next(place)) is not None and len(found) < 40:
        found += BYTES[following[0]]
        fields.feed(place, following[0], names, drawn=False)
    return found


def test_a_value_comes_from_the_record_that_the_answer_has_reached() -> None:
    """`욕실` stands twice, and keys that the prompt does not have lie between."""
    prompt = b"Rooms: " + text({"rooms": ROOMS})
    first = b'{"list":[{"id":"a","note":1,"kind":"'
    assert guessed(prompt, first).startswith('욕실",'.encode())
    later = text({"list": ROOMS[:2]})[:-2] + b',{"id":'
    assert guessed(prompt, later).startswith(b'"c"')
    third = later + '"c","note":null,"kind":"욕실","windows":'.encode()
    assert guessed(prompt, third).startswith(b"2")


def test_records_may_be_taken_in_another_order() -> None:
    prompt = text(ROOMS)
    assert guessed(prompt, b'[{"id":"c","area":').startswith(b"3.4")
    assert guessed(prompt, b'[{"id":"c","area":3.4},{"id":"b","windows":').startswith(b"1")


def test_keys_by_other_names_are_learnt_from_their_values() -> None:
    prompt, names = text(ROOMS), dict[bytes, bytes]()
    guessed(prompt, b'[{"room":"b","actual":15.2}]', names)
    assert names == {b"room": b"id", b"actual": b"area"}
    assert guessed(prompt, b'[{"room":"c","actual":', names).startswith(b"3.4")


def test_what_the_prompt_does_not_have_is_not_guessed() -> None:
    assert guessed(text(ROOMS), b'{"new":') == b""
    assert guessed(text(ROOMS), b'{"id":"z') == b""
    assert guessed(b"Nothing but words.", b'{"id":"') == b""


def test_drafts_carry_a_record_whose_last_tokens_stand_elsewhere_too() -> None:
    prompt, habits = list(text(ROOMS)), Habits()
    written = list('[{"id":"c","kind":"욕실","windows":'.encode())
    drafter = Drafter(prompt, token_bytes=BYTES)
    guess, _ = drafter.guess(prompt + written, 0.3, habits)
    assert bytes(token for token, _ in guess).startswith(b"2,")


def test_a_guess_leaves_no_trace() -> None:
    fields = Fields(list(text(ROOMS)), BYTES)
    for token in b'[{"id":"b","kind":':
        fields.feed(fields.place, token, {}, drawn=True)
    place = fields.place.copy()
    for token in b'"x","id":"a"}]':
        fields.feed(place, token, {}, drawn=False)
    following = fields.next(fields.place)
    assert following is not None
    assert following[0] == ord('"')
    assert following[1] == ("linked", b"kind", "start")


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_any_bytes_are_taken(prompt: bytes, written: bytes) -> None:
    guessed(prompt, written)


@given(st.lists(st.sampled_from(list(b'"{}[]:,\\a1 ')), max_size=120), st.integers(0, 120))
def test_any_structure_is_taken(symbols: list[int], cut: int) -> None:
    guessed(bytes(symbols[:cut]) + b'"a":1', bytes(symbols[cut:]))


def test_text_full_of_quotes_costs_no_more_than_its_length() -> None:
    """Unclosed strings are bounded: the second would take minutes without."""
    for hostile in (b'"' * 100_000, b'"\\' * 100_000, b'"a":' * 30_000, b'"a":"' * 30_000):
        Fields(list(hostile), BYTES)
