"""The offline bundle: checked, resumed, moved, and served from with nothing else."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from finetune.export import wheels
from finetune.export.bundle import bundle
from finetune.export.cli import bundle as command
from provider.engine.checkpoint import load
from provider.errors import ConfigurationError
from tests.finetune.exporting import DEMO, manifest, write_peft

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = load(DEMO, "cpu", "fp32", progress=False).model
    folder = write_peft(tmp_path_factory.mktemp("adapters") / "adapter", model)
    return manifest(folder, name="floor", base_model="exaone-demo", licence="apache-2.0")


@pytest.fixture
def moved(adapter: Path, tmp_path: Path) -> Path:
    """A bundle that was carried to another place."""
    bundle(tmp_path / "out", DEMO, [adapter], progress=False)
    shutil.copytree(tmp_path / "out", tmp_path / "elsewhere" / "b")
    shutil.rmtree(tmp_path / "out")
    return tmp_path / "elsewhere" / "b"


def run(script: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    surroundings = {"PATH": os.environ["PATH"], **environment}
    return subprocess.run([script], capture_output=True, text=True, env=surroundings, cwd="/")


def test_what_is_in_it(moved: Path) -> None:
    assert (moved / "models/exaone-demo/model.safetensors").is_file()
    assert (moved / "adapters/floor/adapter_model.safetensors").is_file()
    assert "LOCAL_LLM_MODEL_PATH=models/exaone-demo\n" in (moved / ".env").read_text()
    assert "adapters/floor: apache-2.0" in (moved / "LICENCES").read_text()
    assert str(DEMO) not in "".join(p.read_text() for p in moved.iterdir() if p.is_file())


def test_a_name_that_is_no_folder_name_is_not_used(adapter: Path, tmp_path: Path) -> None:
    shutil.copytree(adapter, tmp_path / "safe")
    manifest(tmp_path / "safe", name="../../outside")
    parts = bundle(tmp_path / "b", DEMO, [tmp_path / "safe"], progress=False)
    assert parts[-1].place == "adapters/safe"


def test_an_embedding_model_is_served_beside_it(tmp_path: Path) -> None:
    encoder = DEMO.parent / "embedder-demo"
    parts = bundle(tmp_path / "b", DEMO, embedding=encoder, progress=False)
    assert [part.place for part in parts] == ["models/exaone-demo", "models/embedder-demo"]
    assert "LOCAL_EMBEDDING_MODEL=models/embedder-demo\n" in (tmp_path / "b/.env").read_text()
    stored = {path.name for path in (tmp_path / "b/models/embedder-demo").rglob("*.json")}
    assert {"modules.json", "config.json"} <= stored


def test_verify_notices_a_change_a_loss_and_an_addition(moved: Path) -> None:
    assert run(moved / "verify.sh").returncode == 0
    (moved / "stranger.py").write_text("")
    ran = run(moved / "verify.sh")
    assert ran.returncode == 1
    assert "./stranger.py" in ran.stderr
    (moved / "stranger.py").unlink()
    weights = moved / "models/exaone-demo/model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert "model.safetensors: FAILED" in run(moved / "verify.sh").stdout
    weights.unlink()
    assert run(moved / "verify.sh").returncode != 0
    assert run(moved / "install.sh").returncode != 0


def test_install_without_wheels_says_what_to_do(moved: Path) -> None:
    ran = run(moved / "install.sh")
    assert ran.returncode == 1
    assert "--wheels" in ran.stderr


@pytest.fixture
def served(moved: Path) -> Iterator[str]:
    """serve.sh with this Python, in a clean environment."""
    reading, writing = os.pipe()
    environment = {"PATH": os.environ["PATH"], "BUNDLE_PYTHON": sys.executable, "HOME": str(moved)}
    arguments = ["--port", "0", "--quiet", "--ready-fd", str(writing)]
    server = subprocess.Popen(
        [moved / "serve.sh", *arguments], env=environment, cwd="/", pass_fds=[writing]
    )
    os.close(writing)
    try:
        with os.fdopen(reading) as ready:
            yield json.loads(ready.readline())["url"]
    finally:
        server.send_signal(signal.SIGTERM)
        assert server.wait(30) in (0, -signal.SIGTERM)


def ask(url: str, model: str) -> Any:
    body = {"model": model, "messages": [{"role": "user", "content": "거실?"}], "max_tokens": 8}
    request = urllib.request.Request(
        f"{url.removesuffix('/v1')}/v1/chat/completions", json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )  # fmt: skip
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def test_it_serves_model_and_adapter_from_where_it_was_carried(served: str) -> None:
    plain, adapted = ask(served, "exaone-demo"), ask(served, "floor")
    assert plain["usage"]["completion_tokens"] > 0
    assert adapted["usage"]["completion_tokens"] > 0


def test_an_adapter_of_another_base_is_refused_before_anything_is_written(
    adapter: Path, tmp_path: Path
) -> None:
    shutil.copytree(adapter, tmp_path / "wrong")
    manifest(tmp_path / "wrong", base_model="x/other")
    arguments = ["--model", str(DEMO), "--adapters", str(tmp_path / "wrong")]
    ran = CliRunner().invoke(command, [str(tmp_path / "b"), *arguments])
    assert ran.exit_code == 1
    assert "base_model 'x/other'" in ran.output
    with pytest.raises(ConfigurationError, match="adapters/floor"):
        bundle(tmp_path / "b", DEMO, [adapter, adapter])
    with pytest.raises(ConfigurationError, match="does not exist"):
        bundle(tmp_path / "b", tmp_path / "nowhere")
    assert [path.name for path in tmp_path.iterdir()] == ["wrong"]


def test_killed_half_way_it_goes_on_and_keeps_what_is_whole(adapter: Path, tmp_path: Path) -> None:
    shutil.copytree(DEMO, tmp_path / "m" / "exaone-demo")
    killed = (
        "import resource, signal, sys\n"
        "from finetune.export.cli import bundle\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_DFL)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))\n"
        "bundle(sys.argv[1:])\n"
    )
    model = tmp_path / "m" / "exaone-demo"
    command = [sys.executable, "-c", killed, str(tmp_path / "b"), "--model", str(model)]
    ran = subprocess.run(command, capture_output=True, cwd=ROOT)
    assert ran.returncode == -signal.SIGXFSZ, ran.stderr
    assert not (tmp_path / "b").exists()
    partial = tmp_path / ".b.partial" / "models" / "exaone-demo"
    assert not (partial / "model.safetensors").exists()
    kept = (partial / "config.json").stat().st_ino
    (tmp_path / ".b.partial" / "adapters").mkdir()
    (tmp_path / ".b.partial" / "adapters" / "leftover").write_text("of other arguments")
    bundle(tmp_path / "b", model, [adapter], progress=False)
    assert (tmp_path / "b/models/exaone-demo/config.json").stat().st_ino == kept
    assert not (tmp_path / "b/adapters/leftover").exists()
    assert not list((tmp_path / "b").rglob("*.unfinished"))
    assert run(tmp_path / "b" / "verify.sh").returncode == 0


def test_a_full_disk_costs_nothing_that_is_there(adapter: Path, tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, limits[1]))
    try:
        with pytest.raises(ConfigurationError, match="cannot be written"):
            bundle(tmp_path / "b", DEMO, [adapter], progress=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (tmp_path / ".b.partial/models/exaone-demo/config.json").is_file()
    bundle(tmp_path / "b", DEMO, [adapter], progress=False)
    assert run(tmp_path / "b" / "verify.sh").returncode == 0


def test_wheels_need_a_source_tree_and_an_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigurationError, match="source tree"):
        wheels.collect(tmp_path / "w", root=tmp_path)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    with pytest.raises(ConfigurationError, match="PIP_INDEX_URL"):
        wheels.collect(tmp_path / "w")
    assert (tmp_path / "w" / ".made-for").is_file()


def test_a_folder_of_adapters_stands_for_all_of_them(adapter: Path, tmp_path: Path) -> None:
    for name in ("tax", "housing"):
        shutil.copytree(adapter, tmp_path / "adapters" / name)
        manifest(tmp_path / "adapters" / name, name=name)
    parts = bundle(tmp_path / "b", DEMO, [tmp_path / "adapters"], progress=False)
    assert [part.place for part in parts[1:]] == ["adapters/housing", "adapters/tax"]
    (tmp_path / "none").mkdir()
    with pytest.raises(ConfigurationError, match=r"it has no adapter_config\.json"):
        bundle(tmp_path / "c", DEMO, [tmp_path / "none"], progress=False)
