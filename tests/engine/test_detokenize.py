"""Tokens to text: whole characters, hidden stop strings, log-probabilities with their text."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from provider.engine.detokenize import TextAssembler
from provider.engine.request import TokenLogprob


def pushed(pieces: list[bytes], stops: tuple[str, ...] = ()) -> tuple[str, bool, list[str]]:
    """Released text, whether a stop string was met, and every single release."""
    assembler = TextAssembler(stops)
    released = [assembler.push(piece) for piece in pieces]
    if not assembler.stopped:
        released.append(assembler.flush())
    return "".join(released), assembler.stopped, released


def test_a_character_split_over_tokens_comes_whole() -> None:
    data = "거실 😀".encode()
    text, _, released = pushed([data[i : i + 1] for i in range(len(data))])
    assert text == "거실 😀"
    assert all("\ufffd" not in piece for piece in released)


def test_bytes_that_never_become_text_are_replaced_and_a_cut_character_is_dropped() -> None:
    assert pushed([b"a\xff", b"b"])[0] == "a\ufffdb"
    assert pushed(["거".encode()[:2]])[0] == ""


def test_a_stop_string_across_tokens_is_hidden() -> None:
    text, stopped, released = pushed([b"one<", b"/en", b"d> two"], ("</end>", "zzz"))
    assert (text, stopped) == ("one", True)
    assert released[0] == "one"


def test_what_only_looked_like_a_stop_string_comes_late_but_comes() -> None:
    assert pushed([b"a<", b"/e", b"x"], ("</end>",)) == ("a</ex", False, ["a", "", "</ex", ""])
    assert pushed([b"a<", b"/e"], ("</end>",))[0] == "a</e"


def test_the_earliest_stop_string_wins() -> None:
    assert pushed([b"abcdef"], ("ef", "cd"))[0] == "ab"


@given(
    text=st.text(st.sampled_from("ab거실😀 "), max_size=30),
    stops=st.lists(st.text(st.sampled_from("ab거실😀 "), min_size=1, max_size=4), max_size=4),
    cuts=st.lists(st.integers(0, 120), max_size=20),
)
def test_any_split_gives_the_text_before_the_first_stop(
    text: str, stops: list[str], cuts: list[int]
) -> None:
    data = text.encode()
    borders = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    pieces = [data[a:b] for a, b in pairwise(borders)]
    got, stopped, _ = pushed(pieces, tuple(stops))
    # A later token may complete an earlier stop, but a found stop ends the answer at its token.
    seen = b""
    expected = text
    for piece in pieces:
        seen += piece
        known = seen.decode(errors="ignore")
        found = [known.find(stop) for stop in stops if stop in known]
        if found:
            expected = known[: min(found)]
            break
    assert got == expected
    assert stopped == any(stop in text for stop in stops)


def test_logprobs_come_with_the_text_they_complete() -> None:
    assembler = TextAssembler(("END",))
    data = "거".encode()

    def score(token: int) -> TokenLogprob:
        return TokenLogprob(token, b"", -1.0)

    assembler.push(data[:1], score(1))
    assert assembler.logprobs() == ()
    assert assembler.push(data[1:], score(2)) == "거"
    assert [s.token for s in assembler.logprobs()] == [1, 2]
    assembler.push(b"xE", score(3))
    assert assembler.logprobs() == ()
    assembler.push(b"ND", score(4))
    assert assembler.stopped
    assert assembler.logprobs() == ()
