"""The figures in this folder's README, written by the runs that measured them."""

import re
from pathlib import Path

README = Path(__file__).with_name("README.md")


def write_figures(name: str, figures: str, readme: Path = README) -> None:
    """Replace what stands between the two markers of `name`. Raises ValueError without markers."""
    text = readme.read_text(encoding="utf-8")
    section = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    if not section.search(text):
        raise ValueError(
            f"{readme.name} has no section between <!-- {name} --> and <!-- /{name} -->"
        )
    filled = section.sub(lambda match: f"{match[1]}{figures}\n{match[2]}", text)
    readme.write_text(filled, encoding="utf-8")
