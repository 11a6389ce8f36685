"""Switching at run time: one file, every process, nothing under way is disturbed."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from provider.base import ApiRequest
from provider.errors import ConfigurationError, Conflict, InvalidRequest
from provider.factory import build
from provider.overrides import Overrides
from provider.settings import Settings
from provider.switch import ADMIN_PATH, Switch, Switchboard
from tests.switching.parts import Named, chat, content_of

KNOWN = ("local", "openai")


@pytest.fixture
def overrides(tmp_path: Path) -> Overrides:
    return Overrides(tmp_path / "state" / "providers.json", KNOWN)


def switch(overrides: Overrides, *, cold: bool = False, pause: float = 0.0) -> Switch:
    return Switch(
        "llm",
        "openai",
        overrides,
        lambda name: Named(name, pause=pause),
        frozenset({"local"} if cold else ()),
    )


async def test_without_a_file_the_default_answers(overrides: Overrides) -> None:
    response = await switch(overrides).answer(chat())
    assert await content_of(response) == "openai"
    assert response.headers["x-sllm-provider"] == "openai"


async def test_the_next_request_goes_to_the_other_side(overrides: Overrides) -> None:
    one = switch(overrides)
    for name in ("local", "openai", "local"):
        overrides.set({"llm": name})
        assert await content_of(await one.answer(chat())) == name
    overrides.set({"llm": None})
    assert await content_of(await one.answer(chat())) == "openai"


async def test_a_stream_ends_where_it_began(overrides: Overrides) -> None:
    one = switch(overrides, pause=0.01)
    response = await one.answer(chat(stream=True))
    overrides.set({"llm": "local"})
    assert await content_of(response) == "openai" * 5
    assert await content_of(await one.answer(chat(stream=True))) == "local" * 5


async def test_every_process_sees_the_change(overrides: Overrides) -> None:
    one = switch(overrides)
    assert overrides.path is not None
    code = (
        "from pathlib import Path; from provider.overrides import Overrides;"
        f"Overrides(Path({str(overrides.path)!r}), ('local', 'openai')).set({{'llm': 'local'}})"
    )
    await asyncio.to_thread(subprocess.run, [sys.executable, "-c", code], check=True)
    assert await content_of(await one.answer(chat())) == "local"
    [entry] = overrides.history()
    assert entry["llm"] == "local"
    assert "@" in entry["changed_by"]


async def test_a_cold_provider_is_closed_when_it_has_finished(overrides: Overrides) -> None:
    overrides.set({"llm": "local"})
    one = switch(overrides, cold=True, pause=0.01)
    response = await one.answer(chat(stream=True))
    local = one._standing["local"].provider
    assert isinstance(local, Named)
    overrides.set({"llm": "openai"})
    await content_of(await one.answer(chat()))
    assert not local.closed  # its stream is still under way
    assert await content_of(response) == "local" * 5
    await asyncio.sleep(0)
    assert local.closed
    overrides.set({"llm": "local"})
    assert await content_of(await one.answer(chat())) == "local"  # built anew


@pytest.mark.parametrize("cold", [False, True])
async def test_an_idle_provider_is_closed_where_standby_is_cold(
    overrides: Overrides, cold: bool
) -> None:
    """Nothing of it is under way when it is switched away from."""
    overrides.set({"llm": "local"})
    one = switch(overrides, cold=cold)
    await one.answer(chat())
    local = one._standing["local"].provider
    assert isinstance(local, Named)
    overrides.set({"llm": "openai"})
    await one.answer(chat())
    await asyncio.sleep(0)
    assert local.closed is cold
    await one.aclose()
    assert local.closed


def test_the_side_that_may_be_switched_to_is_ready_before_it_is(overrides: Overrides) -> None:
    """Importing and reading certificates takes a second; no request should wait for that."""
    one = Switch("llm", "local", overrides, Named, ready=frozenset({"openai"}))
    one.warm_up()
    assert set(one._standing) == {"local", "openai"}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"llm": "grok"}', '{"llm": 1}', "\x00" * 10])
async def test_a_broken_file_leaves_the_last_good_state(overrides: Overrides, text: str) -> None:
    overrides.set({"llm": "local"})
    one = switch(overrides)
    assert await content_of(await one.answer(chat())) == "local"
    assert overrides.path is not None
    overrides.path.write_text(text, encoding="utf-8")
    assert await content_of(await one.answer(chat())) == "local"


def config_map(folder: Path, version: int, text: str) -> None:
    """As the kubelet mounts one: a folder per version, `..data` swapped to it by one rename."""
    (folder / f"..{version}").mkdir()
    (folder / f"..{version}" / "providers.json").write_text(text, "utf-8")
    (folder / "..data_tmp").symlink_to(f"..{version}")
    os.replace(folder / "..data_tmp", folder / "..data")
    if not (folder / "providers.json").is_symlink():
        (folder / "providers.json").symlink_to("..data/providers.json")


def test_a_change_that_cannot_be_read_now_is_read_later(overrides: Overrides) -> None:
    assert overrides.path is not None
    Overrides(overrides.path, overrides.known).set({"llm": "openai"})
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, limits[1]))
    try:
        assert overrides.state().llm is None
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert overrides.state().llm == "openai"


def test_a_mounted_config_map_is_followed(tmp_path: Path) -> None:
    overrides = Overrides(tmp_path / "providers.json", KNOWN)
    assert overrides.state().llm is None
    for version, name in enumerate(("local", "openai", "local")):
        config_map(tmp_path, version, json.dumps({"llm": name}))
        assert overrides.state().llm == name
    config_map(tmp_path, 9, "{")
    assert overrides.state().llm == "local"  # the last good one
    (tmp_path / "providers.json").unlink()
    (tmp_path / "providers.json").symlink_to("providers.json")  # a loop: nobody can look at it
    assert overrides.state().llm == "local"


def test_what_is_switched_through_a_link_is_seen_by_all_who_look_there(tmp_path: Path) -> None:
    (tmp_path / "shared.json").write_text("{}", "utf-8")
    (tmp_path / "mine.json").symlink_to("shared.json")
    mine, shared = (Overrides(tmp_path / name, KNOWN) for name in ("mine.json", "shared.json"))
    mine.set({"llm": "local"})
    assert shared.state().llm == "local"
    assert (tmp_path / "mine.json").is_symlink()
    assert len(mine.history()) == len(shared.history()) == 1


def test_where_nothing_can_be_written_it_is_read_all_the_same() -> None:
    """As a ConfigMap is mounted; /proc refuses even root."""
    overrides = Overrides(Path("/proc/version"), KNOWN)
    assert overrides.state().llm is None
    with pytest.raises(ConfigurationError, match="change the ConfigMap"):
        overrides.set({"llm": "local"})


def test_two_commands_at_once_lose_nothing(overrides: Overrides) -> None:
    assert overrides.path is not None
    code = (
        "import sys; from pathlib import Path; from provider.overrides import Overrides\n"
        f"o = Overrides(Path({str(overrides.path)!r}), ('local', 'openai'))\n"
        "for _ in range(20): o.set({sys.argv[1]: 'local'})"
    )
    commands = [
        subprocess.Popen([sys.executable, "-c", code, side]) for side in ("llm", "embedding")
    ]
    assert [command.wait(60) for command in commands] == [0, 0]
    state = overrides.state()
    assert (state.llm, state.embedding) == ("local", "local")
    assert len(overrides.history(100)) == 40


def test_what_cannot_be_switched_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="known ones are local, openai"):
        Overrides(tmp_path / "p.json", KNOWN).set({"llm": "grok"})
    with pytest.raises(ConfigurationError, match="SLLM_STATE_FILE is not set"):
        Overrides(None, KNOWN).set({"llm": "local"})
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="cannot be written"):
        Overrides(tmp_path / "file" / "p.json", KNOWN).set({"llm": "local"})


async def test_the_admin_path_switches_and_tells(overrides: Overrides) -> None:
    board = Switchboard(switch(overrides), overrides, {"llm": "openai", "embedding": "openai"})
    put = ApiRequest("PUT", ADMIN_PATH, {"x-sllm-changed-by": "kim"}, b'{"llm": "local"}')
    told = json.loads(await (await board.answer(put)).read())
    assert told["llm"] == {"active": "local", "default": "openai", "overridden": True}
    assert told["changed_by"] == "kim"
    assert await content_of(await board.answer(chat())) == "local"
    back = ApiRequest("PUT", ADMIN_PATH, {}, b'{"llm": "default"}')
    told = json.loads(await (await board.answer(back)).read())
    assert told["llm"]["overridden"] is False
    assert len(told["history"]) == 2


@pytest.mark.parametrize("body", [b"{}", b'{"llm": "grok"}', b'{"llm": 3}', b'{"lm": "local"}'])
async def test_the_admin_path_refuses(overrides: Overrides, body: bytes) -> None:
    board = Switchboard(switch(overrides), overrides, {"llm": "openai", "embedding": "openai"})
    with pytest.raises(InvalidRequest):
        await board.answer(ApiRequest("PUT", ADMIN_PATH, {}, body))


async def test_a_read_only_state_is_a_conflict(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    overrides = Overrides(tmp_path / "file" / "p.json", KNOWN)
    board = Switchboard(switch(overrides), overrides, {"llm": "openai", "embedding": "openai"})
    with pytest.raises(Conflict):
        await board.answer(ApiRequest("PUT", ADMIN_PATH, {}, b'{"llm": "local"}'))


async def test_a_hundred_flips_during_ten_thousand_requests(overrides: Overrides) -> None:
    """None failed, none mixed, none lost; streams among them."""
    one = switch(overrides, pause=0.001)
    flips = 0

    async def ask(number: int) -> str:
        content = await content_of(await one.answer(chat(stream=number % 4 == 0)))
        assert content in {"openai", "local", "openai" * 5, "local" * 5}
        return content[: len("local")]

    async def flip() -> None:
        nonlocal flips
        while flips < 100 or len(answers) < 10_000:  # all the while, however fast the disk is
            await asyncio.to_thread(overrides.set, {"llm": KNOWN[flips % 2]})
            flips += 1
            await asyncio.sleep(0.005)

    answers: list[str] = []
    flipping = asyncio.create_task(flip())
    for start in range(0, 10_000, 500):
        answers += await asyncio.gather(*(ask(start + n) for n in range(500)))
        await asyncio.sleep(0.02)
    await flipping
    assert len(answers) == 10_000
    assert {"local", "opena"} == set(answers)
    assert all(standing.under_way == 0 for standing in one._standing.values())


def test_a_history_that_somebody_else_wrote_into_is_read_all_the_same(overrides: Overrides) -> None:
    overrides.set({"llm": "local"})
    assert overrides.path is not None
    with overrides.path.with_name("providers.json.log").open("a", encoding="utf-8") as file:
        file.write('not json\n{"llm": "openai"}\n{"torn\n[1]\n')
    first, second = overrides.history()
    assert (first["llm"], second["llm"], second["changed_at"]) == ("local", "openai", None)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"llm_record": "/proc/nope/x.jsonl"}, "LLM_RECORD='/proc/nope/x.jsonl' cannot be written"),
        (
            {"llm_shadow": "local", "llm_shadow_path": "/proc/nope/x.jsonl"},
            "LLM_SHADOW_PATH='/proc/nope/x.jsonl' cannot be written",
        ),
    ],
)
def test_a_journal_that_cannot_be_is_said_at_start(
    tmp_path: Path, values: dict[str, str], said: str
) -> None:
    settings = Settings(
        _env_file=None,
        sllm_state_file=tmp_path / "s.json",
        local_llm_base_url="http://127.0.0.1:9/v1",
        **values,
    )
    with pytest.raises(ConfigurationError, match=said):
        build(settings).warm_up()  # type: ignore[attr-defined]


def test_a_reason_to_fall_back_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="expected some of connect, timeout"):
        Settings(_env_file=None, llm_fallback_on="connect,nothing")
