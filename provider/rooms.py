"""Our top-level packages, from where `provider` lies and from nowhere else.

`server` and `migrations` are names that an app has as well: under the app's folder or its
PYTHONPATH `import server` would find, and run, the app's own.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

NAMES = frozenset({"provider", "server", "migrations", "finetune"})
_HOME = str(Path(__file__).resolve().parent.parent)


class Rooms:
    """A finder for `sys.meta_path` that knows `NAMES` alone."""

    @staticmethod
    def find_spec(
        fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The package beside `provider`; None for every other module, and for what is not there."""
        return PathFinder.find_spec(fullname, [_HOME]) if fullname in NAMES else None


def prefer() -> None:
    """From now on this process imports `NAMES` from beside `provider`. For processes of ours: in an
    app's own process `server` is the app's."""
    if Rooms not in sys.meta_path:
        sys.meta_path.insert(0, Rooms)
