"""Settings: what is wrong is refused in one sentence; the generated pages follow the code."""

from __future__ import annotations

from pathlib import Path

import pytest

from provider import ConfigurationError, Settings
from provider.configuration import configuration_page, env_example
from provider.factory import PROVIDERS, make

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.chdir(tmp_path)


def test_defaults_are_the_plans(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings()
    assert settings.llm_provider == settings.embedding_provider == "openai"
    assert settings.local_llm_max_new_tokens == 4096
    assert settings.local_embedding_model == "BM-K/KoSimCSE-roberta"
    assert settings.openai_model == "gpt-4o-mini"
    assert settings.openai_embedding_dimensions == 512
    assert settings.stock_client


def test_the_environment_wins_over_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("LLM_PROVIDER=local\nOPENAI_MODEL=gpt-4o\n", encoding="utf-8")
    monkeypatch.setenv("LLM_PROVIDER", "openai")
    settings = Settings()
    assert (settings.llm_provider, settings.openai_model) == ("openai", "gpt-4o")


def test_an_empty_variable_is_an_unset_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_PROVIDER", "")
    assert Settings().llm_provider == "openai"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("LLM_PROVIDER", "lokal", "expected one of"),
        ("EMBEDDING_PROVIDER", "gpt", "expected one of"),
        ("LOCAL_LLM_DEVICE", "gpu", "auto, cuda, cuda:N, mps or cpu"),
        ("LOCAL_LLM_MAX_NEW_TOKENS", "0", "greater than or equal to 1"),
        ("LOCAL_LLM_MEMORY", "many", "expected a size such as 5GiB"),
        ("OPENAI_BASE_URL", "api.openai.com", "expected an http(s) URL"),
        ("PORTABILITY", "yes", "'warn', 'enforce' or 'off'"),
        ("MODEL_ALIASES", "gpt-4o-mini", "NAME=MODEL pairs"),
        ("SLLM_PORT", "70000", "less than or equal to 65535"),
    ],
)
def test_a_wrong_value_is_one_sentence_with_name_value_and_expectation(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError) as caught:
        Settings()
    sentence = str(caught.value)
    assert name in sentence
    assert repr(value) in sentence
    assert said in sentence
    assert "\n" not in sentence


def test_every_wrong_value_is_listed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_PROVIDER", "x")
    monkeypatch.setenv("SLLM_PORT", "x")
    with pytest.raises(ConfigurationError) as caught:
        Settings()
    assert str(caught.value).count("cannot be used") == 2


def test_a_misspelt_variable_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_LLM_DEVISE", "cpu")
    with pytest.raises(ConfigurationError, match="did you mean LOCAL_LLM_DEVICE"):
        Settings()


def test_an_open_address_needs_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLLM_HOST", "0.0.0.0")
    with pytest.raises(ConfigurationError, match="SLLM_API_KEYS must name at least one key"):
        Settings()
    monkeypatch.setenv("SLLM_API_KEYS", "one, two")
    assert Settings().sllm_api_keys == ["one", "two"]


def test_secrets_stay_out_of_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    assert "sk-very-secret" not in repr(Settings()) + str(Settings())


def test_sizes_and_pairs_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_LLM_MEMORY", "5GiB")
    monkeypatch.setenv("MODEL_ALIASES", "gpt-4o-mini=exaone:floorplan, *=default")
    settings = Settings()
    assert settings.local_llm_memory == 5 * 2**30
    assert settings.model_aliases == {"gpt-4o-mini": "exaone:floorplan", "*": "default"}


def test_an_unknown_provider_lists_the_known_ones() -> None:
    with pytest.raises(ConfigurationError, match="litellm, local, openai"):
        make("grok", Settings())
    assert "grok" not in PROVIDERS


def test_the_generated_pages_are_current() -> None:
    assert (ROOT / ".env.example").read_text(encoding="utf-8") == env_example()
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert page == configuration_page()


def test_every_setting_has_its_line() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert field.description.endswith("."), name
        assert f"# {name.upper()}=" in env_example()


def test_the_state_file_is_where_the_system_keeps_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/var/lib/states")
    assert Settings().state_file == Path("/var/lib/states/sllm/providers.json")
    monkeypatch.setenv("XDG_STATE_HOME", "")
    assert Settings().state_file == Path.home() / ".local/state/sllm/providers.json"
