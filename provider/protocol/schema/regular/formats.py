"""String formats as regular languages.

`language(name)` is None for a format that JSON Schema does not define (`int32`, `password`,
`color`, ...): those are annotations. The defined ones are enforced, after their RFCs:

- `date`, `date-time`, `time`: RFC 3339 with real calendars (29 February in leap years only, years
  from 0001, the first that Python's and SQL's dates have); the leap second is written in UTC only
  (23:59:60Z).
- `email`: RFC 5321 mailbox. `hostname`: RFC 1123.
- `uuid`, `ipv4`, `ipv6`, `uri`, `uri-reference`, `json-pointer`, `relative-json-pointer`,
  `duration`, `uri-template` (level 1 to 4 syntax): their own RFCs.
- `iri`, `iri-reference`: RFC 3987.
- `regex`: what ECMA-262 and the regular expressions of other languages have in common, with groups
  up to three deep: a pattern that every reader takes, and means the same by.
- `idn-email`, `idn-hostname`: defined by tables that change; refused.
"""

from __future__ import annotations

from functools import lru_cache

from provider.protocol.schema.regular import algebra
from provider.protocol.schema.regular.algebra import Re
from provider.protocol.schema.regular.ecma import search

UNENFORCEABLE = frozenset({"idn-email", "idn-hostname"})

_LEAP = r"(?:[0-9][0-9](?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00)"
_YEAR = r"(?:[1-9][0-9]{3}|0[1-9][0-9]{2}|00[1-9][0-9]|000[1-9])"
_DATE = (
    rf"(?:{_YEAR}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])"
    r"|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-8]))"
    rf"|{_LEAP}-02-29)"
)
_ZONE = r"(?:[zZ]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
_TIME = (
    rf"(?:(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]+)?{_ZONE}"
    r"|23:59:60(?:\.[0-9]+)?(?:[zZ]|[+-]00:00))"
)
_DURATION = (
    r"P(?:(?:[0-9]+Y(?:[0-9]+M(?:[0-9]+D)?)?|[0-9]+M(?:[0-9]+D)?|[0-9]+D)"
    r"(?:T(?:[0-9]+H(?:[0-9]+M(?:[0-9]+S)?)?|[0-9]+M(?:[0-9]+S)?|[0-9]+S))?"
    r"|T(?:[0-9]+H(?:[0-9]+M(?:[0-9]+S)?)?|[0-9]+M(?:[0-9]+S)?|[0-9]+S)|[0-9]+W)"
)
_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_IPV4 = rf"(?:{_OCTET}\.){{3}}{_OCTET}"
_H16 = r"[0-9a-fA-F]{1,4}"
_LS32 = rf"(?:{_H16}:{_H16}|{_IPV4})"
_IPV6 = (
    rf"(?:(?:{_H16}:){{6}}{_LS32}"
    rf"|::(?:{_H16}:){{5}}{_LS32}"
    rf"|(?:{_H16})?::(?:{_H16}:){{4}}{_LS32}"
    rf"|(?:(?:{_H16}:){{0,1}}{_H16})?::(?:{_H16}:){{3}}{_LS32}"
    rf"|(?:(?:{_H16}:){{0,2}}{_H16})?::(?:{_H16}:){{2}}{_LS32}"
    rf"|(?:(?:{_H16}:){{0,3}}{_H16})?::{_H16}:{_LS32}"
    rf"|(?:(?:{_H16}:){{0,4}}{_H16})?::{_LS32}"
    rf"|(?:(?:{_H16}:){{0,5}}{_H16})?::{_H16}"
    rf"|(?:(?:{_H16}:){{0,6}}{_H16})?::)"
)
_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
_HOST = rf"{_LABEL}(?:\.{_LABEL})*"
_ATEXT = r"[a-zA-Z0-9!#$%&'*+\-/=?^_`{|}~]+"
_QUOTED = r"\"(?:[ !#-\[\]-~]|\\[ -~])*\""
_EMAIL = rf"(?:{_ATEXT}(?:\.{_ATEXT})*|{_QUOTED})@(?:{_HOST}|\[(?:{_IPV4}|IPv6:{_IPV6})\])"
_UNRESERVED = r"a-zA-Z0-9\-._~!$&'()*+,;="
_PCT = r"%[0-9a-fA-F]{2}"
_PCHAR = rf"(?:[{_UNRESERVED}:@]|{_PCT})"
_AUTHORITY = (
    rf"(?:(?:[{_UNRESERVED}:]|{_PCT})*@)?"
    rf"(?:\[(?:{_IPV6}|v[0-9a-fA-F]+\.[{_UNRESERVED}:]+)\]|(?:[{_UNRESERVED}]|{_PCT})*)(?::[0-9]*)?"
)
_TAIL = rf"(?:\?(?:{_PCHAR}|[/?])*)?(?:#(?:{_PCHAR}|[/?])*)?"
_HIER = (
    rf"(?://{_AUTHORITY}(?:/{_PCHAR}*)*|/(?:{_PCHAR}+(?:/{_PCHAR}*)*)?|{_PCHAR}+(?:/{_PCHAR}*)*|)"
)
_NOSCHEME = rf"(?:[{_UNRESERVED}@]|{_PCT})+(?:/{_PCHAR}*)*"
_RELATIVE = rf"(?://{_AUTHORITY}(?:/{_PCHAR}*)*|/(?:{_PCHAR}+(?:/{_PCHAR}*)*)?|{_NOSCHEME}|)"
_URI = rf"[a-zA-Z][a-zA-Z0-9+.\-]*:{_HIER}{_TAIL}"
_UCS = (
    r"\u{A0}-\u{D7FF}\u{F900}-\u{FDCF}\u{FDF0}-\u{FFEF}"
    + "".join(rf"\u{{{plane:X}0000}}-\u{{{plane:X}FFFD}}" for plane in range(1, 14))
    + r"\u{E1000}-\u{EFFFD}"
)
_PRIVATE = r"\u{E000}-\u{F8FF}\u{F0000}-\u{FFFFD}\u{100000}-\u{10FFFD}"
_POINTER = r"(?:/(?:[^~/]|~[01])*)*"
_VARNAME = r"(?:[a-zA-Z0-9_]|%[0-9a-fA-F]{2})(?:\.?(?:[a-zA-Z0-9_]|%[0-9a-fA-F]{2}))*"
_VARSPEC = rf"{_VARNAME}(?::[1-9][0-9]{{0,3}}|\*)?"
_LITERAL = r"[^\u0000-\u0020\"'%<>\\^`{|}\u007f]"


def _international(uri: str) -> str:
    """RFC 3987: unreserved characters are also those beyond ASCII; in queries, private ones too."""
    wide = uri.replace(_UNRESERVED, _UNRESERVED + _UCS)
    return wide.replace("|[/?])*)?(?:#", f"|[/?{_PRIVATE}])*)?(?:#")


def _patterns() -> str:
    """Regular expressions that engines agree on; those of a range are in order."""
    spans = "|".join(
        f"{first}-[{first}-{last}]"
        for first, last in (
            *((chr(c), "9") for c in range(0x30, 0x3A)),
            *((chr(c), "Z") for c in range(0x41, 0x5B)),
            *((chr(c), "z") for c in range(0x61, 0x7B)),
        )
    )
    escape = (
        r"\\(?:[dDwWsSnrtfv^$\\.*+?()\[\]{}|/]|x[0-9a-fA-F]{2}|u[0-9a-cA-Ce-fE-F][0-9a-fA-F]{3})"
    )
    inside = rf"(?:{spans}|{escape}|\\-|[^\\\]\[^\-\u0000-\u001f])"
    listed = rf"\[\^?-?{inside}+-?\]"
    atom = rf"(?:[^\\^$.*+?()\[\]{{}}|\u0000-\u001f]|\.|{escape}|{listed})"
    body = rf"(?:{atom}{_TIMES}|[\^$|]|\\[bB])*"
    for _ in range(3):
        body = rf"(?:(?:{atom}|\((?:\?:)?{body}\)){_TIMES}|[\^$|]|\\[bB])*"
    return rf"(?:\(\?[=!]{atom}*\)|{body})*"


_UP_TO = "|".join(f"{n},(?:[{n}-9]|[1-9][0-9]{{1,3}})" for n in range(10))
_TIMES = rf"(?:[*+?]\??|\{{(?:[0-9]{{1,4}},?|{_UP_TO})\}}\??)?"
_FORMATS = {
    "date": _DATE,
    "time": _TIME,
    "date-time": rf"{_DATE}[tT]{_TIME}",
    "duration": _DURATION,
    "email": _EMAIL,
    "hostname": _HOST,
    "ipv4": _IPV4,
    "ipv6": _IPV6,
    "uuid": r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}",
    "uri": _URI,
    "uri-reference": rf"(?:{_URI}|{_RELATIVE}{_TAIL})",
    "iri": _international(_URI),
    "iri-reference": _international(rf"(?:{_URI}|{_RELATIVE}{_TAIL})"),
    "regex": _patterns(),
    "json-pointer": rf"(?:{_POINTER})",
    "relative-json-pointer": rf"(?:0|[1-9][0-9]*)(?:#|{_POINTER})",
    "uri-template": rf"(?:{_LITERAL}|{_PCT}|\{{[+#./;?&]?{_VARSPEC}(?:,{_VARSPEC})*\}})*",
}

NAMES = frozenset(_FORMATS)


@lru_cache(maxsize=64)
def language(name: str) -> Re | None:
    """The strings of a format; None for one that only annotates."""
    pattern = _FORMATS.get(name)
    if pattern is None:
        return None
    found = search(f"^(?:{pattern})$")
    if name == "hostname":
        return algebra.both(found, algebra.repeat(algebra.ANY, 1, 253))
    return found
