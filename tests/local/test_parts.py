"""Models are loaded once per process, named before they are loaded, and let go by the last."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from provider.base import ApiRequest
from provider.errors import ApiError, ConfigurationError
from provider.factory import build
from provider.local import LocalProvider, demo
from provider.local import build as build_local
from provider.local.lazy import Lazy, Shared
from provider.local.loading import EMBEDDING_SETTINGS, ENGINE_SETTINGS
from provider.settings import Settings
from tests.tiny import embedder_folder, llm_folder


def test_a_lazy_value_is_built_once_by_whoever_asks_first() -> None:
    built: list[int] = []
    lazy = Lazy(lambda: built.append(1) or len(built))  # type: ignore[func-returns-value]
    assert lazy.built is None
    threads = [threading.Thread(target=lazy.now) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert built == [1]
    assert lazy.built == 1


def test_a_failure_to_build_is_raised_each_time() -> None:
    def fail() -> int:
        raise ConfigurationError("no")

    lazy = Lazy(fail)
    for _ in range(2):
        with pytest.raises(ConfigurationError):
            lazy.now()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_is_told_that_it_cannot_use_what_its_parent_has_loaded() -> None:
    code = """
        import os, sys
        from provider.errors import ServerError
        from provider.local.lazy import Lazy
        loaded, fresh = Lazy.of("engine"), Lazy(lambda: "made here")
        fresh._lock.acquire()  # by a thread that the fork does not have
        if os.fork() == 0:
            assert fresh.now() == "made here"
            try:
                loaded.now()
            except ServerError as error:
                os._exit(7 if "fork" in str(error) else 8)
            os._exit(9)
        sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], timeout=60)
    assert done.returncode == 7


def test_the_last_holder_closes() -> None:
    closed: list[str] = []
    shared: Shared[str] = Shared(closed.append)
    first = shared.hold("key", lambda: "part")
    assert shared.hold("key", lambda: "another") is first
    assert first.now() == "part"
    shared.let_go("key")
    assert closed == []
    shared.let_go("key")
    assert closed == ["part"]
    assert shared.hold("key", lambda: "fresh").now() == "fresh"


def local(**more: object) -> Settings:
    return Settings(
        _env_file=None,
        llm_provider="local",
        embedding_provider="local",
        local_llm_model_path=str(llm_folder()),
        local_embedding_model=str(embedder_folder()),
        local_llm_device="cpu",
        local_embedding_device="cpu",
        local_llm_memory=256 << 20,
        **more,
    )


async def models(provider: LocalProvider) -> list[str]:
    listed = await provider.answer(ApiRequest("GET", "/v1/models"))
    return [model["id"] for model in json.loads(await listed.read())["data"]]


async def test_the_settings_build_a_provider_that_serves() -> None:
    built = build(local(local_llm_name="plans"))
    provider = built if isinstance(built, LocalProvider) else None
    first, second = LocalProvider(local()), LocalProvider(local(local_llm_max_new_tokens=7))
    try:
        assert first.health()["ready"] is False
        first.warm_up()
        assert first.health()["ready"] is True
        second.warm_up()
        assert first.language.built is not None
        assert second.language.built is not None
        assert second.language.built.engine is first.language.built.engine
        assert second.language.built.budget.answer == 7
        assert await models(first) == [
            "exaone-tiny",
            "roberta-tiny",
            "gpt-4o-mini",
            "gpt-4o",
            "text-embedding-3-small",
        ]
        language = first.language.built
        assert language is not None
        await first.aclose()
        assert language.engine.alive
        await second.aclose()
        assert not language.engine.alive
    finally:
        await built.aclose()
    assert provider is None or provider.language.built is None


async def test_a_side_that_is_not_local_is_not_loaded_to_be_listed() -> None:
    provider = LocalProvider(local().model_copy(update={"llm_provider": "openai"}))
    try:
        assert await models(provider) == ["roberta-tiny", "text-embedding-3-small"]
        assert provider.language.built is None
    finally:
        await provider.aclose()


def test_a_folder_of_adapters_must_be_one(tmp_path: Path) -> None:
    provider = LocalProvider(local(local_llm_adapters=tmp_path / "none"))
    with pytest.raises(ConfigurationError, match="LOCAL_LLM_ADAPTERS"):
        provider.warm_up()


def test_demo_is_a_folder_of_the_repository() -> None:
    assert demo.located("a/b", demo.LANGUAGE, "LOCAL_LLM_MODEL_PATH") == "a/b"
    with pytest.raises(ConfigurationError, match="make demo-model"):
        demo.located("demo", "no-such-model", "LOCAL_LLM_MODEL_PATH")
    unloaded = LocalProvider(Settings(_env_file=None, llm_provider="local"))
    assert unloaded.health()["ready"] is False


def test_an_alias_that_leads_nowhere_is_told_at_start(caplog: pytest.LogCaptureFixture) -> None:
    provider = LocalProvider(local(model_aliases={"gpt-4o": "gone", "gpt-4o-mini": "default"}))
    provider.warm_up()
    said = [record.message for record in caplog.records if "MODEL_ALIASES" in record.message]
    assert len(said) == 1
    assert "gpt-4o=gone" in said[0]
    assert "exaone-tiny" in said[0]


@pytest.mark.parametrize("behind_a_server", [False, True])
async def test_a_model_that_cannot_be_loaded_is_a_503_with_the_reason_where_it_belongs(
    tmp_path: Path, behind_a_server: bool, caplog: pytest.LogCaptureFixture
) -> None:
    nowhere = str(tmp_path / "nowhere")
    provider = LocalProvider(local().model_copy(update={"local_llm_model_path": nowhere}))
    context = {"caller": "key-1"} if behind_a_server else {}
    request = ApiRequest("POST", "/v1/chat/completions", body=b"{}", context=context)
    for _ in range(2):
        with pytest.raises(ApiError) as caught:
            await provider.answer(request)
        assert caught.value.status == 503
        assert caught.value.headers["x-should-retry"] == "false"
        assert (nowhere in caught.value.message) is not behind_a_server
    assert nowhere in caplog.text


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("provider.local.find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match=r"sllm-provider\[local\]"):
        build_local(local())


def test_importing_loads_nothing_heavy() -> None:
    heavy = "{'torch', 'transformers', 'llguidance'}"
    code = f"import sys, provider.local; print({heavy} & {{*sys.modules}})"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"


def test_every_setting_of_a_model_is_one_that_loading_depends_on_or_not() -> None:
    elsewhere = {
        "local_llm_name",
        "local_llm_max_new_tokens",
        "local_llm_standby",
        "local_llm_base_url",
        "local_llm_api_key",
    }
    of_models = {n for n in Settings.model_fields if n.startswith(("local_llm_", "local_emb"))}
    known = {*ENGINE_SETTINGS, *EMBEDDING_SETTINGS} - {"tiktoken_cache_dir"}
    assert of_models - known == elsewhere
