"""One schema document: where its subschemas are and what its references mean.

Follows JSON Schema core: `$id` (draft 4: `id`) opens a base, `$anchor` names a place, a fragment is
a JSON pointer or an anchor. References out of the document are refused: nothing is fetched.
"""

from __future__ import annotations

import marshal
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote, urldefrag, urljoin

from provider.protocol.schema.known import KEYWORDS, LIST_VALUED, MAP_VALUED, SCHEMA_VALUED
from provider.protocol.schema.refused import Malformed, SchemaRefused

_DRAFTS = {
    "http://json-schema.org/draft-03/schema": 3,
    "http://json-schema.org/draft-04/schema": 4,
    "http://json-schema.org/schema": 4,
    "http://json-schema.org/draft-06/schema": 6,
    "http://json-schema.org/draft-07/schema": 7,
    "https://json-schema.org/draft/2019-09/schema": 2019,
    "https://json-schema.org/draft/2020-12/schema": 2020,
}
_LATEST = 2020
_OPENERS = frozenset({"$schema", "$id", "id"})
_NAMERS = frozenset({"$anchor", "$dynamicAnchor", "$recursiveAnchor"})
_MARKS = _OPENERS | _NAMERS
_MEANT = (KEYWORDS | _MARKS) - {"$defs", "definitions"}


class Place:
    """A subschema: what stands there, its base URI and its draft; and the way there. Not to be
    changed; a frozen dataclass would take three times as long to make, and there are thousands."""

    __slots__ = ("base", "draft", "parent", "schema", "step")

    def __init__(
        self, schema: Any, base: str, draft: int, parent: Place | None = None, step: str | int = ""
    ) -> None:
        self.schema = schema
        self.base = base
        self.draft = draft
        self.parent = parent
        self.step = step

    @property
    def pointer(self) -> str:
        """The JSON pointer (RFC 6901)."""
        steps: list[str] = []
        place: Place | None = self
        while place is not None and place.parent is not None:
            steps.append(str(place.step).replace("~", "~0").replace("/", "~1"))
            place = place.parent
        return "".join(f"/{step}" for step in reversed(steps))


class Document:
    """The subschemas of one document by address, a small number given when first met."""

    def __init__(self, root: Any) -> None:
        self.root = root
        self._places: list[Place] = []
        self._addresses: dict[tuple[str, int, int], int] = {}
        self._contents: dict[Any, int] = {}
        self._known: dict[int, int] = {}
        self._resources: dict[str, Place] = {}
        self._anchors: dict[tuple[str, str], Place] = {}
        self._dynamic: dict[str, list[Place]] = {}
        self._root = _with_base(Place(root, "", _draft(root, _LATEST)))
        self._resources[self._root.base] = self._resources[""] = self._root
        if _names_places(root):
            self._index(self._root)

    def place(self, address: int) -> Place:
        return self._places[address]

    def root_address(self) -> int:
        return self._address(self._root)

    def child(self, parent: Place, *steps: str | int) -> int:
        """The address of a subschema inside `parent`."""
        schema, place = parent.schema, parent
        for step in steps:
            schema = schema[step]
            place = _enter(place, schema, step)
        return self._address(place)

    def resolve(self, origin: Place, reference: Any, keyword: str = "$ref") -> int:
        """The address a reference points to."""
        if not isinstance(reference, str):
            raise Malformed(keyword, origin.pointer, "it must be a string.")
        if reference.startswith("#"):  # urljoin does not join fragments to urn: and the like
            uri, fragment = origin.base, unquote(reference[1:])
        else:
            uri, fragment = urldefrag(urljoin(origin.base, reference))
        resource = self._resources.get(uri)
        if resource is None:
            raise SchemaRefused(
                keyword,
                origin.pointer,
                f"'{reference}' is outside of the schema, and nothing is fetched.",
                mend="Copy the definition into '$defs' and refer to '#/$defs/NAME'.",
            )
        if fragment and not fragment.startswith("/"):
            anchor = self._anchors.get((uri, fragment))
            if anchor is None:
                raise self._missing(keyword, origin, reference)
            return self._address(anchor)
        return self._address(self._walk(resource, fragment, origin, reference, keyword))

    def dynamic(self, origin: Place, reference: Any, keyword: str) -> int:
        """`$dynamicRef` and `$recursiveRef`, where only one place can be meant."""
        address = self.resolve(origin, reference, keyword)
        name = urldefrag(str(reference))[1] if keyword == "$dynamicRef" else ""
        rivals = self._dynamic.get(name, [])
        if len(rivals) > 1 or (rivals and self._address(rivals[0]) != address and name == ""):
            raise SchemaRefused(
                keyword,
                origin.pointer,
                "several places may be meant, depending on the path taken.",
                mend="Use '$ref'.",
            )
        return address

    def _walk(
        self, place: Place, fragment: str, origin: Place, reference: str, keyword: str
    ) -> Place:
        for raw in fragment.split("/")[1:] if fragment else []:
            step: str | int = unquote(raw).replace("~1", "/").replace("~0", "~")
            schema = place.schema
            if isinstance(schema, list) and str(step).isdigit() and int(step) < len(schema):
                step = int(step)
            elif not (isinstance(schema, dict) and step in schema):
                raise self._missing(keyword, origin, reference)
            place = _enter(place, schema[step], step)
        return place

    def _missing(self, keyword: str, origin: Place, reference: str) -> SchemaRefused:
        return Malformed(keyword, origin.pointer, f"nothing stands at '{reference}'.")

    def _address(self, place: Place) -> int:
        # The root stays out of it: reading all of its text would read unused definitions too.
        content = -1 if place is self._root else self._content(place.schema)
        key = (place.base, place.draft, content)
        found = self._addresses.get(key)
        if found is None:
            found = self._addresses[key] = len(self._places)
            self._places.append(place)
        return found

    def _content(self, schema: Any) -> int:
        """A number that schemas share which mean the same; annotations make no difference."""
        known = self._known.get(id(schema))
        if known is not None:
            return known
        if type(schema) is not dict:
            return self._contents.setdefault(_exact(schema), len(self._contents))
        key = tuple([(k, self._meant(k, v)) for k, v in schema.items() if k in _MEANT])
        found = self._contents.setdefault(key, len(self._contents))
        self._known[id(schema)] = found
        return found

    def _meant(self, keyword: str, value: Any) -> Any:
        """A keyword's value, with a number for each schema in it."""
        kind = type(value)
        if kind is dict and keyword in SCHEMA_VALUED:
            return self._content(value)
        if kind is dict and keyword in MAP_VALUED:
            content = self._content
            return tuple(
                [(n, content(v) if type(v) is dict else _exact(v)) for n, v in value.items()]
            )
        if kind is list and keyword in LIST_VALUED:
            return tuple([self._content(v) for v in value])
        return value if kind is str else _exact(value)

    def _index(self, root: Place) -> None:
        for place in _walk_all(root):
            schema = place.schema
            if not isinstance(schema, dict):
                continue
            if place.base != "" and isinstance(schema.get(_id_keyword(place.draft)), str):
                self._resources.setdefault(place.base, place)
            for keyword in ("$anchor", "$dynamicAnchor"):
                name = schema.get(keyword)
                if isinstance(name, str):
                    self._anchors.setdefault((place.base, name), place)
                    if keyword == "$dynamicAnchor":
                        self._dynamic.setdefault(name, []).append(place)
            if schema.get("$recursiveAnchor") is True:
                self._dynamic.setdefault("", []).append(place)
            own = schema.get(_id_keyword(place.draft))
            if isinstance(own, str) and own.startswith("#") and place.draft <= 7:
                self._anchors.setdefault((place.base, own[1:]), place)


def _exact(value: Any) -> Any:
    """Equal for JSON values that are equal, key order and type included, and for no others."""
    kind = type(value)
    return marshal.dumps(value, 2) if kind is list or kind is dict else (kind, value)


def _walk_all(root: Place) -> Iterator[Place]:
    """Every subschema: what merely looks like one inside of `enum` or an unknown keyword is not."""
    stack = [root]
    while stack:
        place = stack.pop()
        yield place
        if not isinstance(place.schema, dict):
            continue
        for keyword, value in place.schema.items():
            holder = _enter(place, value, keyword)
            if keyword in SCHEMA_VALUED and isinstance(value, dict):
                stack.append(holder)
            elif keyword in LIST_VALUED and isinstance(value, list):
                stack += [_enter(holder, v, at) for at, v in enumerate(value)]
            elif keyword in MAP_VALUED and isinstance(value, dict):
                inner = Place(value, place.base, place.draft, place, keyword)
                stack += [_enter(inner, v, name) for name, v in value.items()]


def _enter(parent: Place, schema: Any, step: str | int) -> Place:
    return _with_base(Place(schema, parent.base, parent.draft, parent, step))


def _with_base(place: Place) -> Place:
    """The same place, under the base URI and the draft that it declares itself."""
    schema = place.schema
    if not isinstance(schema, dict) or _OPENERS.isdisjoint(schema):
        return place
    draft = _draft(schema, place.draft)
    own = schema.get(_id_keyword(draft))
    base = place.base
    if isinstance(own, str) and not (draft <= 7 and ("$ref" in schema or own[:1] == "#")):
        base = urldefrag(urljoin(place.base, own))[0]
    return Place(schema, base, draft, place.parent, place.step)


def _names_places(root: Any) -> bool:
    """Whether anything below the root opens a base or has a name of its own."""
    stack: list[Any] = list(root.values()) if isinstance(root, dict) else []
    if isinstance(root, dict) and root.keys() & _NAMERS:
        return True
    while stack:
        value = stack.pop()
        if isinstance(value, dict):
            if not _MARKS.isdisjoint(value):
                return True
            stack += value.values()
        elif isinstance(value, list):
            stack += value
    return False


def _id_keyword(draft: int) -> str:
    return "id" if draft <= 4 else "$id"


def _draft(schema: Any, inherited: int) -> int:
    if not isinstance(schema, dict) or not isinstance(schema.get("$schema"), str):
        return inherited
    return _DRAFTS.get(schema["$schema"].rstrip("#"), inherited)
