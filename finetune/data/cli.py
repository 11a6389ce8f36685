"""`sllm finetune data`: check, split, mix, by-agent, identity, expand.

Exit codes: 0 done; 1 the data have errors, or the work is unfinished; 2 options that cannot work.
"""

from __future__ import annotations

import click

from finetune.data.check_cli import check
from finetune.data.divide_cli import by_agent_command, mix, split
from finetune.data.make_cli import expand, identity


@click.group()
def data() -> None:
    """Check, divide, mix and make training data."""


for _command in (check, split, mix, by_agent_command, identity, expand):
    data.add_command(_command)
