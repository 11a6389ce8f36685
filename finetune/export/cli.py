"""`sllm finetune merge`, `verify`, `export` and `bundle`."""

from __future__ import annotations

from pathlib import Path

import click

from provider.errors import ConfigurationError

_FOLDER = click.Path(path_type=Path, file_okay=False)
_NEW = click.Path(path_type=Path)


@click.command()
@click.argument("base")
@click.argument("adapter", type=_FOLDER)
@click.argument("out", type=_NEW)
@click.option(
    "--into",
    type=click.Choice(["original", "dequantised"]),
    default="original",
    show_default=True,
    help="original: the base's own weights. dequantised: their NF4 values, which an adapter "
    "trained in 4 bit was trained on.",
)
@click.option(
    "--layout",
    type=click.Choice(["original", "llama"]),
    help="EXAONE-3.x under its published names or under Llama's. Unset: as the base.",
)
@click.option(
    "--dtype",
    type=click.Choice(["bf16", "fp16", "fp32"]),
    help="Precision of the result. Unset: as the base, tensor by tensor.",
)
def merge(
    base: str, adapter: Path, out: Path, into: str, layout: str | None, dtype: str | None
) -> None:
    """Add the LoRA adapter in ADAPTER to BASE (a folder or hub id) and write the model to OUT.

    The sum is computed in fp32 and rounded once. OUT must not exist; it appears whole or not at
    all. Memory is that of the adapter and of the base's largest tensor.
    """
    from finetune.export.merge import merge as write

    try:
        done = write(base, adapter, out, into=into, layout=layout, dtype=dtype)  # type: ignore[arg-type]
    except ConfigurationError as error:
        raise click.ClickException(str(error)) from error
    click.echo("\n".join(done.lines(out)))


@click.command()
@click.argument("base")
@click.argument("adapter", type=_FOLDER)
@click.argument("merged", type=_FOLDER)
@click.option(
    "--prompts",
    type=click.Path(path_type=Path, dir_okay=False),
    help='JSONL of {"messages": [...]} to compare on. Unset: eight prompts in ko, en and ja.',
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N, mps.")
@click.option(
    "--dtype",
    type=click.Choice(["fp32", "bf16", "fp16"]),
    default="fp32",
    show_default=True,
    help="Precision to compute in. Narrower than fp32, its own rounding is part of the distance.",
)
def verify(
    base: str, adapter: Path, merged: Path, prompts: Path | None, device: str, dtype: str
) -> None:
    """Compare the logits of BASE with ADAPTER (through PEFT) to those of the MERGED model.

    Ends with 0 when the merged model computes the same up to rounding, with 1 when it does not.
    """
    from finetune.export.verify import verify as compare

    try:
        verdict = compare(base, adapter, merged, prompts=prompts, device=device, dtype=dtype)  # type: ignore[arg-type]
    except ConfigurationError as error:
        raise click.ClickException(str(error)) from error
    click.echo("\n".join(verdict.lines()))
    if not verdict.passed:
        raise SystemExit(1)


@click.command()
@click.argument("folder")
@click.argument("out", type=_NEW)
@click.option(
    "--format",
    "form",
    type=click.Choice(["gguf", "awq", "gptq"]),
    default="gguf",
    show_default=True,
    help="gguf: for llama.cpp and Ollama. awq and gptq are made elsewhere; the error says where.",
)
@click.option(
    "--type",
    "kind",
    type=click.Choice(["f32", "f16", "bf16", "q8_0", "q4_k_m", "q5_k_m", "q6_k"]),
    default="q8_0",
    show_default=True,
    help="Precision of the matrices. q4_k_m, q5_k_m and q6_k need llama.cpp's quantiser.",
)
@click.option(
    "--llama-python",
    type=click.Path(path_type=Path),
    envvar="LLAMA_PYTHON",
    help="Python of an environment with llama-cpp-python, where this one has none "
    "(also LLAMA_PYTHON).",
)
def export(folder: str, out: Path, form: str, kind: str, llama_python: Path | None) -> None:
    """Write the model in FOLDER (merged or not, either layout) to OUT for another runtime.

    OUT must not exist; it holds one .gguf file, an Ollama Modelfile and the licence.
    """
    from finetune.export.formats import export as write

    try:
        done = write(folder, out, form, kind, llama_python)
    except ConfigurationError as error:
        raise click.ClickException(str(error)) from error
    click.echo("\n".join(done.lines()))


@click.command()
@click.argument("out", type=_NEW)
@click.option("--model", required=True, help="Folder or hub id of the model, merged or not.")
@click.option(
    "--adapters",
    multiple=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of a LoRA adapter, or of several; may be given several times.",
)
@click.option("--embedding", help="Folder or hub id of an embedding model to serve beside it.")
@click.option("--wheels", is_flag=True, help="With the Python packages, by pip; needs a network.")
@click.option("--platform", help="pip's name of the other machine, such as manylinux_2_28_x86_64.")
def bundle(
    out: Path,
    model: str,
    adapters: tuple[Path, ...],
    embedding: str | None,
    wheels: bool,
    platform: str | None,
) -> None:
    """Collect in OUT what a machine without a network needs to serve a model.

    OUT must not exist and appears when it is complete; a run that was stopped goes on when it is
    started again. There, run ./install.sh and ./serve.sh.
    """
    from finetune.export.bundle import bundle as collect

    try:
        parts = collect(out, model, adapters, embedding=embedding, wheels=wheels, platform=platform)
    except ConfigurationError as error:
        raise click.ClickException(str(error)) from error
    for part in parts:
        click.echo(f"{out / part.place}: licence {part.licence}")
    if embedding is None:
        click.echo("No embedding model: /v1/embeddings and the list of models need a server; .env.")
    click.echo(f"Check it with {out / 'verify.sh'}, install it with {out / 'install.sh'}.")
