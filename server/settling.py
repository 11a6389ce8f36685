"""What a process does once, between its start and its first request."""

from __future__ import annotations

import gc


def settle() -> None:
    """Takes what was loaded out of the garbage collector's sight.

    Libraries and models are hundreds of thousands of objects that stay for good; each full
    collection would go through them, in the middle of some request. For processes that serve and
    do nothing else.
    """
    gc.collect()
    gc.freeze()
