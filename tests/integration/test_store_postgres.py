"""The store on a real PostgreSQL server: lost connections, a stopped server, two at once."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from alembic.command import upgrade
from alembic.config import Config
from sqlalchemy import create_engine

from outpost.control.checks import Level
from outpost.control.checks.files import check_store
from outpost.errors import StoreError
from outpost.federation import Federation
from outpost.model import State
from outpost.ports import Store
from outpost.store import open_store
from outpost.store.connection import HEAD
from tests.postgres import Cluster
from tests.unit.store_values import StandingClock, a_decision, a_task, an_attempt, claimed

pytestmark = pytest.mark.integration

DEADLINE_S = 30.0
PROCESSES = 4
LOCK_WRITERS = f"SELECT pg_advisory_xact_lock({int.from_bytes(b'outpost', 'big')})"
LINGER_AT_COMMIT = """
    DO $$ BEGIN
        CREATE FUNCTION linger() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NULL; END';
        CREATE CONSTRAINT TRIGGER linger AFTER INSERT ON tasks
        INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION linger();
    END $$"""
OURS = "application_name = 'outpost' AND datname = current_database()"


@pytest.fixture
def url(postgres: Cluster) -> Iterator[str]:
    with postgres.database() as url:
        yield url


@pytest.fixture
async def store(url: str) -> AsyncIterator[Store]:
    store = open_store(url, clock=StandingClock())
    yield store
    await store.close()


def ask(url: str, query: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        return connection.execute(query).fetchall()


def change(url: str, statement: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement)


def break_connections(url: str) -> int:
    return len(ask(url, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {OURS}"))


async def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not true():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


def waits_for_lock(url: str) -> bool:
    query = f"SELECT 1 FROM pg_stat_activity WHERE {OURS} AND wait_event_type = 'Lock'"
    return bool(ask(url, query))


async def error_of(call: Awaitable[object]) -> StoreError:
    async with asyncio.timeout(DEADLINE_S):
        with pytest.raises(StoreError) as caught:
            await call
    assert caught.value.hint
    return caught.value


async def test_opening_alone_does_not_connect(url: str) -> None:
    store = open_store(url)
    await store.close()
    assert ask(url, "SELECT to_regclass('tasks')") == [(None,)]


async def test_text_that_the_server_cannot_hold_is_shown_in_its_place(store: Store) -> None:
    task = replace(a_task(), body="zero \x00 and ✂ 🙂 \x01", reason="\x00")
    await store.add_task(task)
    stored = await store.task(task.id)
    assert (stored.body, stored.reason) == ("zero ␀ and ✂ 🙂 \x01", "␀")
    assert await store.find_tasks("\x00") == []


async def test_a_lost_connection_is_made_anew(url: str, store: Store) -> None:
    await store.add_task(a_task(1))
    assert break_connections(url) == 1
    assert len(await store.queued()) == 1, "a read"
    assert break_connections(url) == 1
    await store.add_task(a_task(2))
    assert len(await store.queued()) == 2


async def test_a_change_cut_off_before_its_commit_is_made_once(url: str, store: Store) -> None:
    await store.add_task(a_task(1))
    with psycopg.connect(url) as other:
        other.execute(LOCK_WRITERS)
        waiting = asyncio.create_task(store.add_task(a_task(2)))
        await until(lambda: waits_for_lock(url))
        assert break_connections(url) == 1
        await until(lambda: waits_for_lock(url))  # again, on another connection
    async with asyncio.timeout(DEADLINE_S):
        await waiting
    assert len(await store.queued()) == 2


async def test_a_commit_that_nobody_saw_is_not_repeated(url: str, store: Store) -> None:
    await store.add_task(a_task(1))
    change(url, LINGER_AT_COMMIT)
    with psycopg.connect(url) as other:
        other.execute("SELECT pg_advisory_xact_lock(1)")
        waiting = asyncio.create_task(store.add_task(a_task(2)))
        await until(lambda: waits_for_lock(url))
        assert break_connections(url) == 1
        error = await error_of(waiting)
    assert "may or may not" in error.message
    assert len(await store.queued()) == 1, "it was not, and the store goes on"
    await store.add_task(a_task(3))


async def test_a_cancelled_call_leaves_no_transaction_open(url: str, store: Store) -> None:
    task = a_task(1)
    await store.add_task(task)
    with psycopg.connect(url) as other:
        other.execute(LOCK_WRITERS)
        waiting = asyncio.create_task(
            store.claim(an_attempt(task), a_decision(task), max_workers=1)
        )
        await until(lambda: waits_for_lock(url))
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    async with asyncio.timeout(DEADLINE_S):
        # Read after it in the same thread: all of the claim is there.
        assert await store.counts() == {"local": 1}
    query = f"SELECT state, xact_start FROM pg_stat_activity WHERE {OURS}"
    await until(lambda: ask(url, query) == [("idle", None)])


async def test_two_writers_clash_without_harm(url: str) -> None:
    stores = [open_store(url, clock=StandingClock()) for _ in range(4)]
    await asyncio.gather(*(store.add_task(a_task(n)) for n, store in enumerate(stores)))
    task = a_task(9)
    await stores[0].add_task(task)
    claims = await asyncio.gather(
        *(
            store.claim(an_attempt(task, suffix=str(n)), a_decision(task), max_workers=1)
            for n, store in enumerate(stores)
        )
    )
    assert len([claim for claim in claims if claim]) == 1
    for store in stores:
        await store.close()


async def test_a_server_that_stops_and_comes_back(postgres: Cluster, url: str) -> None:
    store = open_store(url)
    await store.add_task(a_task(1))
    postgres.stop()
    try:
        for call in (store.queued(), store.add_task(a_task(2))):
            error = await error_of(call)
            assert error.message.startswith("cannot reach the store postgresql://")
            assert "psql 'postgresql://" in error.hint
    finally:
        postgres.start()
    assert len(await store.queued()) == 1
    await store.add_task(a_task(2))
    assert len(await store.queued()) == 2
    await store.close()


async def test_who_waits_has_a_connection_of_its_own_until_the_end(url: str) -> None:
    store = open_store(url)
    count = f"SELECT count(*) FROM pg_stat_activity WHERE {OURS}"
    await store.federation_id()
    assert ask(url, count) == [(1,)]
    for _ in range(3):
        assert not await store.wait_for_change(0.1)
    assert ask(url, count) == [(2,)]
    await store.close()
    await until(lambda: ask(url, count) == [(0,)])


async def test_who_waits_listens_again_once_a_connection_broke(url: str, store: Store) -> None:
    other = open_store(url, clock=StandingClock())
    await other.federation_id()
    assert not await store.wait_for_change(0.1)
    async with asyncio.TaskGroup() as group, asyncio.timeout(DEADLINE_S):
        waiting = group.create_task(store.wait_for_change(2 * DEADLINE_S))
        await until(lambda: break_connections(url) > 0)
        assert await waiting, "what was said meanwhile was not heard, so it looks"
        waiting = group.create_task(store.wait_for_change(2 * DEADLINE_S))
        await other.add_task(a_task(1))
        assert await waiting
    await other.close()


async def test_who_waits_while_the_server_is_away_waits_in_silence(
    postgres: Cluster, url: str
) -> None:
    store = open_store(url)
    await store.federation_id()
    assert not await store.wait_for_change(0.1)
    postgres.stop()
    try:
        assert not await store.wait_for_change(0.3)
        never = open_store(url)
        assert not await never.wait_for_change(0.3)
        await never.close()
    finally:
        postgres.start()
    assert await store.wait_for_change(DEADLINE_S)
    await store.close()


async def test_a_url_that_cannot_be_read_is_said_while_waiting(postgres: Cluster) -> None:
    store = open_store("postgresql://keeper@/db?nonsense=1")
    await error_of(store.wait_for_change(DEADLINE_S))
    await store.close()


async def test_a_wait_cancelled_as_it_connects_leaves_nothing(url: str) -> None:
    stores = [open_store(url) for _ in range(5)]
    for turns, store in enumerate(stores):
        waiting = asyncio.create_task(store.wait_for_change(DEADLINE_S))
        for _ in range(turns):
            await asyncio.sleep(0.001)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await store.close()
    await until(lambda: ask(url, f"SELECT count(*) FROM pg_stat_activity WHERE {OURS}") == [(0,)])


@pytest.mark.parametrize(
    ("user", "database", "said", "hint"),
    [
        ("guest:wr0ng", "postgres", "password authentication failed", "env://NAME"),
        ("guest", "postgres", "no password", "env://NAME"),
        ("keeper:wr0ng", "nowhere", "does not exist", "createdb"),
        ("guest:s3cret", "postgres", "permission denied", "psql"),
    ],
)
async def test_a_server_that_does_not_let_us_in_says_why(
    postgres: Cluster, user: str, database: str, said: str, hint: str
) -> None:
    postgres.run("DROP ROLE IF EXISTS guest", "CREATE ROLE guest LOGIN PASSWORD 's3cret'")
    url = postgres.url(database, user=user)
    store = open_store(url)
    error = await error_of(store.counts())
    await store.close()
    assert said in error.message
    assert hint in error.hint
    assert f"/{database}" in error.message
    seen, usable = await check_store(url)
    assert (seen.level, usable) in {(Level.PROBLEM, False), (Level.OK, False)}
    shown = "".join(traceback.format_exception(error)) + error.hint + str(seen)
    assert "wr0ng" not in shown
    assert "s3cret" not in shown


async def test_a_password_lets_us_in(postgres: Cluster) -> None:
    postgres.run("DROP ROLE IF EXISTS guest", "CREATE ROLE guest LOGIN PASSWORD 's3/c@et'")
    with postgres.database("OWNER guest") as url:
        store = open_store(url.replace("keeper@", "guest:s3%2Fc%40et@"))
        await claimed(store)
        await store.close()


async def test_another_encoding_is_refused(postgres: Cluster) -> None:
    with postgres.database("ENCODING 'LATIN1' TEMPLATE template0") as url:
        store = open_store(url)
        error = await error_of(store.counts())
        assert "LATIN1" in error.message
        await store.close()


async def test_an_empty_database_can_be_read_without_making_tables(url: str) -> None:
    store = open_store(url, create=False)
    assert await store.attempts() == []
    for call in (store.federation_id(), store.add_task(a_task())):
        error = await error_of(call)
        assert "no store at postgresql://" in error.message
        assert "outpost spawn" in error.hint
    assert ask(url, "SELECT to_regclass('tasks')") == [(None,)]
    assert (await check_store(url))[1] is False
    maker = open_store(url)
    attempt = await claimed(maker)
    await maker.close()
    assert await store.attempts() == [attempt], "seen as soon as somebody has made it"
    await store.close()
    seen, usable = await check_store(url)
    assert (seen.level, usable) == (Level.OK, True)
    assert seen.detail.endswith(f"schema {HEAD}")


async def test_tables_of_a_newer_version_are_refused_and_untouched(url: str) -> None:
    store = open_store(url)
    await claimed(store)
    await store.close()
    change(url, "UPDATE alembic_version SET version_num = '9999'")
    store = open_store(url)
    error = await error_of(store.attempts())
    await store.close()
    assert "newer outpost" in error.message
    assert "'9999'" in error.message
    assert error.hint == "use a newer version of outpost"
    assert ask(url, "SELECT version_num FROM alembic_version") == [("9999",)]
    seen, usable = await check_store(url)
    assert (seen.level, usable) == (Level.PROBLEM, False)


FIRST_USE = """
import asyncio, sys
from outpost.store import open_store
async def main():
    store = open_store(sys.argv[1])
    print(await store.federation_id())
    await store.close()
asyncio.run(main())
"""


def first_use(url: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", FIRST_USE, url],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )


def make_first_revision(url: str) -> None:
    """Make the tables as the first version did, and a federation."""
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as connection:
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", "outpost.store:migrations")
        upgrade(config, "0001")
        connection.exec_driver_sql("INSERT INTO federation VALUES ('abcdefgh', 1)")
    engine.dispose()


def test_many_that_make_the_tables_at_once_agree(url: str) -> None:
    processes = [first_use(url) for _ in range(PROCESSES)]
    printed = [process.communicate(timeout=DEADLINE_S) for process in processes]
    assert {err for _, err in printed} == {""}
    assert len({out for out, _ in printed}) == 1
    assert ask(url, "SELECT count(*) FROM federation") == [(1,)]
    assert ask(url, "SELECT version_num FROM alembic_version") == [(HEAD,)]


async def test_a_migration_killed_half_way_leaves_the_tables_as_they_were(url: str) -> None:
    make_first_revision(url)
    columns = "SELECT table_name, column_name FROM information_schema.columns ORDER BY 1, 2"
    before = ask(url, columns)
    with psycopg.connect(url) as other:
        # The second revision changes tasks, and then waits to learn whether it may make duties.
        other.execute("CREATE TABLE duties (id int)")
        process = first_use(url)
        try:
            await until(lambda: waits_for_lock(url))
        finally:
            process.kill()
            process.communicate()
        other.rollback()
    assert ask(url, columns) == before
    assert ask(url, "SELECT version_num FROM alembic_version") == [("0001",)]
    store = open_store(url)
    assert await store.federation_id() == "abcdefgh"
    await claimed(store)
    assert await store.count_by_state() == {State.RESERVED: 1}
    await store.close()
    assert ask(url, "SELECT version_num FROM alembic_version") == [(HEAD,)]


def test_what_only_reads_loads_the_driver_and_nothing_more(url: str) -> None:
    asyncio.run(_make(url))
    program = FIRST_USE + "print(*{'alembic', 'sqlalchemy', 'psycopg'} & set(sys.modules))\n"
    done = subprocess.run(
        [sys.executable, "-c", program, url], capture_output=True, text=True, check=True
    )
    assert done.stdout.split()[1:] == ["psycopg"]


async def _make(url: str) -> None:
    store = open_store(url)
    await store.federation_id()
    await store.close()


async def test_a_password_given_by_reference_is_never_shown(
    postgres: Cluster, tmp_path: Path, isolated_environment: dict[str, str]
) -> None:
    postgres.run("DROP ROLE IF EXISTS guest", "CREATE ROLE guest LOGIN PASSWORD 's3cret'")
    config = tmp_path / "outposts.yaml"
    config.write_text("store: {url: env://OUTPOST_STORE}\n")
    with postgres.database("OWNER guest") as url:
        for password, level in (("s3cret", Level.OK), ("wr0ng", Level.PROBLEM)):
            mine = url.replace("keeper@", f"guest:{password}@")
            federation = Federation.from_file(
                str(config), environment={**isolated_environment, "OUTPOST_STORE": mine}
            )
            async with federation:
                if level is Level.OK:
                    await claimed(federation.store)
                diagnosis = await federation.diagnose()
            (store,) = (check for check in diagnosis.checks if check.about == "store")
            assert store.level is level
            assert "postgresql://guest@/outpost_" in store.detail
            assert password not in repr(diagnosis)
