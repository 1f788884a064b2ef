from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outpost.control.environment import worker_environment
from outpost.runner.agents import NAMES, load
from outpost.transports.place import ShellPlace
from outpost.transports.this_machine import ThisMachine
from outpost.transports.variables import as_there

OURS = {
    "PATH": "/bin",
    "HOME": "/home/sam",
    "LC_TIME": "C",
    "XDG_CACHE_HOME": "/c",
    "https_proxy": "http://proxy",
    "SSH_AUTH_SOCK": "/agent",
    "GIT_SSH_COMMAND": "ssh -x",
    "GIT_CONFIG_GLOBAL": "/gitconfig",
    "GIT_DIR": "/elsewhere",
    "GIT_INDEX_FILE": "/elsewhere",
    "AWS_SECRET_ACCESS_KEY": "hunter2",
    "ANTHROPIC_API_KEY": "key",
    "MY_TOKEN": "token",
    "CLAUDECODE": "1",
    "PYTHONPATH": "/p",
    "LD_PRELOAD": "/l",
    "OUTPOST_HOME": "/o",
    "TMUX": "/t",
}


def test_an_agent_gets_the_system_and_what_is_named() -> None:
    got = worker_environment(OURS, agent_variables=("ANTHROPIC_*",), extra=("MY_TOKEN",))
    assert got["agent"] == {
        "PATH": "/bin",
        "HOME": "/home/sam",
        "LC_TIME": "C",
        "XDG_CACHE_HOME": "/c",
        "https_proxy": "http://proxy",
        "ANTHROPIC_API_KEY": "key",
        "MY_TOKEN": "token",
    }


def test_git_gets_its_ways_in_and_no_agents_keys() -> None:
    got = worker_environment(OURS, agent_variables=("ANTHROPIC_*",), extra=("MY_TOKEN",))["git"]
    assert {name for name in got if name not in ("PATH", "HOME", "LC_TIME")} == {
        "XDG_CACHE_HOME",
        "https_proxy",
        "SSH_AUTH_SOCK",
        "GIT_SSH_COMMAND",
        "GIT_CONFIG_GLOBAL",
    }


@given(ours=st.dictionaries(st.text(max_size=10), st.text(max_size=3)))
def test_nothing_gets_through_by_accident(ours: dict[str, str]) -> None:
    got = worker_environment(ours, agent_variables=(), extra=())
    allowed = {"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TZ", "TMPDIR", "TERM"}
    for name in got["agent"]:
        assert name in allowed or name.startswith(("LC_", "XDG_")) or "PROXY" in name.upper()


KEYS = (
    *("ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", "CLAUDE_CODE_OAUTH_TOKEN", "CLAUDE_CONFIG_DIR"),
    *("CODEX_API_KEY", "CODEX_HOME", "OPENAI_API_KEY", "GEMINI_API_KEY", "GOOGLE_API_KEY"),
)
NOBODYS = (
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AZURE_CLIENT_SECRET", "DATABASE_URL"),
    *("GITHUB_TOKEN", "GH_TOKEN", "GITLAB_TOKEN", "NPM_TOKEN", "PGPASSWORD", "VAULT_TOKEN"),
    *("SSH_AUTH_SOCK", "SSH_ASKPASS", "GIT_ASKPASS", "GIT_SSH_COMMAND", "GIT_CONFIG_VALUE_0"),
    *("OUTPOST_GIT_USER", "OUTPOST_GIT_PASSWORD", "OUTPOST_HOME", "OUTPOST_CONFIG"),
    *("CLAUDECODE", "CLAUDE_CODE_ENTRYPOINT", "CLAUDE_CODE_SSE_PORT", "TMUX", "STY"),
    *("GOOGLE_APPLICATION_CREDENTIALS", "KUBECONFIG", "DOCKER_HOST", "GPG_AGENT_INFO"),
    *("LD_PRELOAD", "LD_LIBRARY_PATH", "DYLD_INSERT_LIBRARIES", "NODE_OPTIONS", "PYTHONPATH"),
    *("BASH_ENV", "ENV", "IFS", "PROMPT_COMMAND", "EDITOR", "PAGER", "DBUS_SESSION_BUS_ADDRESS"),
)
EXPECTED = {
    "acp": set(KEYS),
    "builtin": {"ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL"},
    "claude": {name for name in KEYS if name.startswith(("ANTHROPIC_", "CLAUDE_"))},
    "command": set(),
}


@pytest.mark.parametrize("agent", NAMES)
def test_each_agent_gets_its_own_keys_and_nobody_elses(agent: str) -> None:
    ours = dict.fromkeys((*KEYS, *NOBODYS, "PATH", "HOME"), "x")
    got = worker_environment(ours, agent_variables=load(agent).variables, extra=())
    assert set(got["agent"]) & set(NOBODYS) == set()
    assert {"PATH", "HOME"} <= set(got["agent"])
    assert set(got["agent"]) - {"PATH", "HOME"} <= set(KEYS)
    if agent in EXPECTED:
        assert set(got["agent"]) == EXPECTED[agent] | {"PATH", "HOME"}
    assert set(got["git"]) & set(KEYS) == set()


def test_what_means_this_machine_stays_here() -> None:
    git = {**OURS, "SSL_CERT_EXTRA": "/certificates", "GIT_CONFIG_COUNT": "1", "TZ": "Asia/Tokyo"}
    there = ShellPlace(
        shell=ThisMachine(),
        root="/there",
        python="python3",
        tmux="tmux",
        socket="outpost-test",
        federation_id="test",
        environment={"PATH": "/there/bin"},
    )
    moved = as_there({"agent": {}, "git": git}, there)
    here = {"HOME", "LC_TIME", "XDG_CACHE_HOME", "https_proxy", "SSL_CERT_EXTRA", "TZ"}
    ways = {"SSH_AUTH_SOCK", "GIT_SSH_COMMAND", "GIT_CONFIG_GLOBAL"}
    assert git.keys() - moved["git"].keys() == here | ways
    assert moved["git"]["PATH"] == moved["agent"]["PATH"] == "/there/bin"
    assert as_there({"agent": {}, "git": git}, replace(there, is_here=True))["git"] == git
