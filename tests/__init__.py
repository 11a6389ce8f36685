"""The project's tests. A regular package, so that no other top-level `tests` can shadow it."""
