"""Hosted models whose end is announced. A rollback target that is gone is no rollback.

Dates are as listed by OpenAI's deprecations page and LiteLLM's price map in November 2026; check
https://platform.openai.com/docs/deprecations before you rely on one.
"""

from __future__ import annotations

from datetime import date

from provider.prices import price_map

KNOWN: dict[str, date] = {
    "gpt-4o-mini": date(2027, 1, 14),
    "gpt-4o-mini-2024-07-18": date(2027, 1, 14),
}


def end_of(model: str) -> date | None:
    """The day on which the model is listed to shut down; None where none is known."""
    if model in KNOWN:
        return KNOWN[model]
    listed = (price_map().get(model) or {}).get("deprecation_date")
    try:
        return date.fromisoformat(listed) if listed else None
    except ValueError:
        return None


def warning(model: str, today: date | None = None) -> str | None:
    """One sentence about the model's announced end; None where there is nothing to say."""
    end = end_of(model)
    if end is None:
        return None
    left = (end - (today or date.today())).days
    if left < 0:
        return (
            f"{model} was listed to shut down on {end}: a rollback to it will fail. "
            "Set OPENAI_MODEL to its successor and try it now."
        )
    return (
        f"{model} is listed to shut down on {end} ({left} days): after that a rollback to it "
        "fails. Set OPENAI_MODEL to a successor in time."
    )
