"""A store of an earlier revision is brought up to date with everything in it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from alembic.command import upgrade
from alembic.config import Config
from sqlalchemy import create_engine

from outpost.model import Priority, State
from outpost.store import open_store
from outpost.store.connection import HEAD
from tests.unit.store_values import NOON, a_decision, a_task, claimed

FIRST, BEFORE_MONEY, BEFORE_LOG = "0001", "0002", "0003"
EARLIER = [FIRST, BEFORE_MONEY, BEFORE_LOG]
TASKS = (
    "INSERT INTO tasks (id, issue_id, source, title, body, repo_url, created_at, agent_name,"
    " agent_argv, priority, labels, state, reason, attempts_made) VALUES"
)
DECISIONS = (
    "INSERT INTO decisions (id, task_id, attempt_id, decided_at, candidates, refused, rule) VALUES"
)
REFUSED = '{"outpost": "far", "code": "full", "detail": "is full", "numbers": {"active": 3}}'


def make_old(path: Path, revision: str = FIRST) -> None:
    """Make a store as an earlier version did: a task with an attempt, its decision, one queued."""
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", "outpost.store:migrations")
        upgrade(config, revision)
        connection.exec_driver_sql("INSERT INTO federation VALUES ('abcdefgh', 1)")
        connection.exec_driver_sql(
            f"{TASKS} ('t-000001', 'gt-1', 'text', 'Mend number 1',"
            " 'It is broken.', 'https://example.org/repository.git', 1772366401123457,"
            " 'command', '[\"make\", \"mended\"]', 2, '[]', 'working', '', 1)"
        )
        for number, priority in ((2, 4), (3, 2)):
            connection.exec_driver_sql(
                f"{TASKS} ('t-00000{number}', 'gt-{number}', 'text', 'Mend number {number}',"
                f" 'It is broken.', 'https://example.org/repository.git', 177236640{number}123457,"
                f" 'command', '[\"make\", \"mended\"]', {priority}, '[]', 'queued', '', 0)"
            )
        # Ranked by the revision that brought that, or else as it was queued.
        if revision >= BEFORE_LOG:
            connection.exec_driver_sql(
                "UPDATE tasks SET rank = created_at + priority * 6 * 3600000000"
            )
        connection.exec_driver_sql(
            f"{DECISIONS} (1, 't-000002', NULL, 1772366400123457, '[]', '[{REFUSED}]', '')"
        )
        connection.exec_driver_sql(
            "INSERT INTO attempts VALUES ('w-000001', 't-000001', 'gt-1', 1, 1, 'local', 'local',"
            " 'outpost/gt-1', 1772366401123457, 'working', '', NULL, NULL, NULL, NULL, 3, 300,"
            " '', NULL, 0, 0, 0, 0, NULL, NULL, NULL, '', NULL, NULL, '', '')"
        )
        connection.exec_driver_sql(
            f"{DECISIONS} (2, 't-000001', 'w-000001', 1772366400123457,"
            f" '[\"local\", \"near\"]', '[{REFUSED}]', 'preferred')"
        )
    engine.dispose()


@pytest.mark.parametrize("revision", EARLIER)
async def test_what_was_stored_before_is_kept_and_goes_on(tmp_path: Path, revision: str) -> None:
    path = tmp_path / "outpost.db"
    make_old(path, revision)
    store = open_store(path)
    assert await store.federation_id() == "abcdefgh"
    assert await store.task("t-000001") == replace(a_task(), state=State.WORKING)
    (attempt,) = await store.attempts()
    assert (attempt.id, attempt.state, attempt.offset) == ("w-000001", State.WORKING, 300)
    assert await store.apply(replace(attempt, state=State.DONE))
    assert await store.charges() == []
    await claimed(store, 9)
    await store.forget(attempt.id)
    assert [item.id for item in await store.attempts(ended=True)] == ["w-000009"]
    await store.close()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchone() == (HEAD,)


@pytest.mark.parametrize("revision", EARLIER)
async def test_what_was_queued_before_is_ranked(tmp_path: Path, revision: str) -> None:
    make_old(tmp_path / "outpost.db", revision)
    store = open_store(tmp_path / "outpost.db")
    old = [a_task(3), a_task(2, priority=Priority.P4)]
    assert await store.queued() == old
    between = a_task(4, priority=Priority.P3)
    await store.add_task(between)
    assert await store.queued() == [old[0], between, old[1]]
    assert await store.queued(after=between) == [old[1]]
    assert await store.queue_length(before=old[1]) == 2
    await store.close()


@pytest.mark.parametrize("revision", EARLIER)
async def test_decisions_made_before_are_still_read(tmp_path: Path, revision: str) -> None:
    make_old(tmp_path / "outpost.db", revision)
    store = open_store(tmp_path / "outpost.db")
    placed = a_decision(a_task(1), "local", "near")
    first, second = placed.ranked
    ranked = (first, replace(second, why=""))
    assert await store.decision("t-000001") == replace(placed, ranked=ranked)
    assert await store.decision("t-000002") == a_decision(a_task(2))
    await store.close()


@pytest.mark.parametrize("revision", EARLIER)
async def test_what_ran_before_is_followed_on(tmp_path: Path, revision: str) -> None:
    make_old(tmp_path / "outpost.db", revision)
    store = open_store(tmp_path / "outpost.db")
    (attempt,) = await store.attempts()
    known = (attempt.told, attempt.died, attempt.stop_asked, attempt.checkpoint)
    assert known == (State.WORKING, False, "", "")
    assert await store.transitions() == []
    assert await store.leases() == []
    assert await store.apply(replace(attempt, state=State.LOST), again_at=NOON)
    assert (await store.task(attempt.task_id)).state is State.QUEUED
    assert len(await store.transitions()) == 2
    await store.close()


@pytest.mark.parametrize(
    ("state", "told"),
    [
        ("reserved", State.STARTING),
        ("pushing", State.PUSHING),
        ("unknown", State.WORKING),
        ("lost", State.WORKING),
    ],
)
async def test_what_a_log_told_last_is_guessed(tmp_path: Path, state: str, told: State) -> None:
    path = tmp_path / "outpost.db"
    make_old(path, BEFORE_LOG)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE attempts SET state = ?", (state,))
    store = open_store(path)
    (attempt,) = await store.attempts(ended=True)
    assert attempt.told is told
    await store.close()


async def test_an_old_store_has_the_tables_of_a_new_one(tmp_path: Path) -> None:
    make_old(tmp_path / "old.db")
    texts = []
    for name in ("old.db", "new.db"):
        store = open_store(tmp_path / name)
        await store.federation_id()
        await store.close()
        with closing(sqlite3.connect(tmp_path / name)) as connection:
            rows = connection.execute("SELECT sql FROM sqlite_master ORDER BY name").fetchall()
        texts.append(rows)
    assert texts[0] == texts[1]
