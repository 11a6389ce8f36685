"""python -m bench.migration [--rows 20000] [--way side-table ...]

Every way starts from a copy of one table on one durable server and bears the same load: 20 vector
searches, 40 reads by key and 20 writes a second, open loop. Prints the tables and writes JSON.
"""

from __future__ import annotations

import json
import signal
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import click

from bench.migration.progress import reporting
from bench.migration.stage import Paced, Size, Stage, stage
from bench.migration.ways import PEER, SETTLE, WAYS, Scene, TooLong
from migrations.demo.load import Config, Sample
from migrations.demo.timeline import READS, WRITES, Phase, Timeline, felt, load

WARM_UP = 5.0


def measure(on: Stage, name: str, limit: float) -> dict[str, Any]:
    """One way from its first statement to the rollback, or to the limit."""
    line = Timeline(lambda text: click.echo(f"{name:14} {text}"))
    database = "bench_" + name.replace("-", "_")
    with on.database(database) as url, tempfile.TemporaryDirectory() as folder:
        config = Config(
            url, "bench.migration.stage:make", on.rows, {"openai_embedding_dimensions": 512}
        )
        with load(config) as running, reporting(url, line.say):
            threading.Event().wait(WARM_UP)
            scene = Scene(url, line, running, {"folder": folder}, limit + SETTLE)
            scene.settle("baseline")
            before = Size.of(url)
            try:
                WAYS[name](scene)
            except TooLong:
                scene.facts["stopped"] = f"after {limit:.0f} s"
            except (KeyboardInterrupt, Exception) as error:  # noqa: BLE001 - keep what was felt
                where = f"in {line.phases[-1].name!r}"
                scene.facts["stopped"] = f"{where}: {type(error).__name__}: {error}"[:200]
            switched = scene.switch or (time.time(), Size.of(url))
            samples = running.stop()
        return _result(name, line, samples, before, switched, scene.facts)


def _result(
    name: str,
    line: Timeline,
    samples: list[Sample],
    before: Size,
    switched: tuple[float, Size],
    facts: dict[str, Any],
) -> dict[str, Any]:
    facts.pop("folder", None)
    whole = Phase("all but the baseline", line.phases[1].start, line.phases[-1].end)
    during = [s for s in samples if s.due >= whole.start]
    until, after = switched
    written = [s for s in during if s.due < until and s.error is None]
    own = sum(s.action in {"meta", "update"} for s in written)
    own_dead = own + sum(s.action == "delete" for s in written)
    return {
        "way": name,
        "phases": [
            {
                "phase": phase.name,
                "seconds": round(phase.seconds, 2),
                "reads": vars(felt(samples, phase, READS)),
                "writes": vars(felt(samples, phase, WRITES)),
            }
            for phase in line.phases
        ],
        "errors": sum(s.error is not None for s in during),
        "kinds of error": sorted({(s.error or "")[:120] for s in during if s.error})[:5],
        "rows of the app's table rewritten": max(0, after.updated - before.updated - own),
        "dead rows": max(0, after.dead - before.dead - own_dead),
        "heap growth MiB": round((after.heap - before.heap) / 2**20, 1),
        "toast growth MiB": round((after.toast - before.toast) / 2**20, 1),
        "WAL MiB": round((after.wal - before.wal) / 2**20),
        "facts": facts,
        "table": line.table(samples),
    }


def summary(results: list[dict[str, Any]]) -> str:
    """One line a way. Sizes are until the switch, without what the app's own writes left."""
    lines = [
        "| way | migration s | backfill rows/s (share of the embedder alone) | longest read ms | "
        "longest write ms | errors | rows rewritten | dead rows | growth MiB | WAL MiB | "
        "rollback s | rows without a vector after it |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    return "\n".join([*lines, *map(_line, results)])


def _line(result: dict[str, Any]) -> str:
    facts = result["facts"]
    phases = [phase for phase in result["phases"] if phase["phase"] != "baseline"]
    working = sum(p["seconds"] for p in phases if "fleet" not in p["phase"])
    stopped = "stopped " if "stopped" in facts else ""
    cells = [
        result["way"],
        f"{stopped}{working:.0f}",
        f"{facts.get('backfill rows/s', 0):,} ({facts.get('share', 0):.0%})",
        f"{max(phase['reads']['worst'] for phase in phases):,.0f}",
        f"{max(phase['writes']['worst'] for phase in phases):,.0f}",
        f"{result['errors']:,}",
        f"{result['rows of the app' + chr(39) + 's table rewritten']:,}",
        f"{result['dead rows']:,}",
        f"{result['heap growth MiB'] + result['toast growth MiB']:.0f}",
        f"{result['WAL MiB']:,}",
        str(facts.get("rollback seconds", "-" if stopped else "embed all again")),
        str(facts.get("rows without an old vector after the rollback", "-" if stopped else "all")),
    ]
    return f"| {' | '.join(cells)} |"


@click.command()
@click.option("--rows", default=20_000, show_default=True, help="100000 is the full run.")
@click.option("--way", "ways", multiple=True, type=click.Choice(list(WAYS)), help="Default: all.")
@click.option("--limit", default=3600.0, show_default=True, help="Seconds a way may migrate.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the results as JSON.")
def main(rows: int, ways: tuple[str, ...], limit: float, out: Path | None) -> None:
    """Measure the ways in one run. SIGTERM ends the way under way and prints what there is."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    click.echo(f"{rows:,} rows; the embedder is paced at {Paced.rate:,} texts/s")
    chosen = list(ways or WAYS)
    if "vecshift" in chosen and not PEER.exists():
        chosen.remove("vecshift")
        click.echo(f"{PEER} is not there, so vecshift is left out; see bench/migration/README.md")
    results: list[dict[str, Any]] = []
    with stage(rows) as on:
        for name in chosen:
            results.append(measure(on, name, limit))
            if out is not None:
                out.write_text(json.dumps(results, indent=1, ensure_ascii=False), encoding="utf-8")
    for result in results:
        click.echo(f"\n## {result['way']}\n\n{result['table']}\n\n{json.dumps(result['facts'])}")
        click.echo(f"{result['errors']} errors: {result['kinds of error']}")
    click.echo(f"\n{summary(results)}")


if __name__ == "__main__":
    main()
