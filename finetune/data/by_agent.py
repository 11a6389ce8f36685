"""A file for each agent_type."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from finetune.data.load import Loaded
from provider.errors import ConfigurationError


def by_agent(rows: Sequence[Loaded]) -> dict[str, list[Loaded]]:
    """Rows by agent, each in its order. Raises `ConfigurationError` for a row without an agent."""
    agents: dict[str, list[Loaded]] = defaultdict(list)
    for row in rows:
        said = row.conversation
        if said.agent_type is None:
            raise ConfigurationError(
                f"{said.source}:{said.line} has no agent_type; add one, or take the line out."
            )
        agents[said.agent_type].append(row)
    return dict(agents)


def names(agents: Mapping[str, object], folder: Path) -> dict[str, Path]:
    """A file for each agent; letters of any script stay, what a file name must not have is
    escaped. Raises `ConfigurationError` for two agents that some file systems hold for one."""
    files: dict[str, Path] = {}
    seen: dict[str, str] = {}
    for agent in agents:
        name = "".join(c if c.isalnum() or c in "-_ " else quote(c, safe="") for c in agent)
        other = seen.setdefault(name.casefold(), agent)
        if other != agent:
            raise ConfigurationError(
                f"The agents {other!r} and {agent!r} differ in case alone; spell them one way."
            )
        files[agent] = folder / f"{name}.jsonl"
    return files
