"""`sllm switch`: which provider answers from the next request on, in every process of this host."""

from __future__ import annotations

import sys

import click

from provider.errors import ConfigurationError
from provider.factory import PROVIDERS
from provider.lifecycle import warning
from provider.overrides import SIDES, Overrides, Side
from provider.settings import Settings

_SIDES: dict[str, tuple[Side, ...]] = {"llm": ("llm",), "embedding": ("embedding",), "both": SIDES}


@click.command()
@click.argument("name", metavar="[openai|local|default]", required=False)
@click.option(
    "--side",
    type=click.Choice(list(_SIDES)),
    default="llm",
    show_default=True,
    help="What to switch. Embeddings change the vector space that is read: `sllm db verify` first.",
)
@click.option("--force", is_flag=True, help="Switch embeddings although their space lacks rows.")
@click.option("--by", help="Who switches, for the history; default: user@host.")
def switch(name: str | None, side: str, force: bool, by: str | None) -> None:
    """Switch to a provider, or back to the configured one (`default`), without a restart.

    Requests under way finish where they began. Without a name it tells how things stand.
    """
    try:
        settings = Settings()
        overrides = Overrides(settings.state_file, PROVIDERS)
        if name is not None:
            chosen = None if name == "default" else name
            if "embedding" in _SIDES[side] and not force:
                _refuse_incomplete(settings, chosen or settings.embedding_provider)
            overrides.set(dict.fromkeys(_SIDES[side], chosen), by)
            click.echo(
                f"Switched {side} to {name}; running processes follow at their next request."
            )
        _tell(settings, overrides)
    except ConfigurationError as error:
        click.echo(str(error), err=True)
        sys.exit(2)


def _refuse_incomplete(settings: Settings, provider: str) -> None:
    """Raise `ConfigurationError` when the provider's space lacks rows of the database."""
    try:
        from provider.vectors.readiness import refusal
    except ModuleNotFoundError:
        return  # without the extra `vectors` there are no spaces
    if said := refusal(settings, provider):
        raise ConfigurationError(f"{said} `sllm switch --force` switches all the same.")


def _tell(settings: Settings, overrides: Overrides) -> None:
    state = overrides.state()
    defaults = {"llm": settings.llm_provider, "embedding": settings.embedding_provider}
    for side in SIDES:
        override = state.of(side)
        why = f"switched; configured: {defaults[side]}" if override else "configured"
        click.echo(f"{side:10} {override or defaults[side]:8} ({why})")
    click.echo(f"state file {overrides.path}")
    for entry in overrides.history(5):
        click.echo(
            f"  {entry['changed_at']}  llm={entry['llm'] or 'default'} "
            f"embedding={entry['embedding'] or 'default'}  by {entry['changed_by']}"
        )
    if said := warning(settings.openai_model):
        click.echo(f"Warning: {said}")
    hosted = any((state.of(side) or defaults[side]) == "openai" for side in SIDES)
    if hosted and settings.openai_api_key is None:
        click.echo(
            "Warning: OPENAI_API_KEY is not set here; a process that has none either sends its "
            "clients' own keys on."
        )
