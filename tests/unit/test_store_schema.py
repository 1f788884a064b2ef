"""The tables: migrations build what the code declares, and reading finds its rows by index."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable

from outpost.errors import StoreError
from outpost.store import ledger, open_store, reads
from outpost.store.connection import HEAD
from outpost.store.schema import metadata
from tests.unit.store_values import claimed


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    path = tmp_path / "outpost.db"
    store = open_store(path)
    await claimed(store)
    await store.close()
    return path


def definitions(path: Path) -> set[str]:
    query = "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name != 'alembic_version'"
    with closing(sqlite3.connect(path)) as connection:
        return {re.sub(r"\s+", " ", row[0]) for row in connection.execute(query)}


def test_migrations_build_the_declared_tables(path: Path, tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{path}")
    with engine.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), metadata)
    engine.dispose()
    assert differences == []


def test_migrations_write_the_same_definitions_to_the_letter(path: Path, tmp_path: Path) -> None:
    declared = tmp_path / "declared.db"
    engine = create_engine(f"sqlite:///{declared}")
    metadata.create_all(engine)
    engine.dispose()
    assert definitions(path) == definitions(declared)


def test_head_is_the_newest_revision() -> None:
    config = Config()
    config.set_main_option("script_location", "outpost.store:migrations")
    assert ScriptDirectory.from_config(config).get_heads() == [HEAD]


@pytest.mark.parametrize(
    ("call", "loaded"),
    [
        ("await store.attempts()", set()),
        ("await store.find('x'); await store.federation_id()", set()),
        ("await store.cancel('t-x', '')", {"sqlalchemy"}),
    ],
)
def test_a_current_store_loads_no_more_than_it_needs(
    path: Path, call: str, loaded: set[str]
) -> None:
    program = f"""
import asyncio, sys
from outpost.store import open_store
async def main():
    store = open_store({str(path)!r})
    {call}
    await store.close()
asyncio.run(main())
print(*{{"alembic", "sqlalchemy", "mako"}} & set(sys.modules))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert set(done.stdout.split()) == loaded


async def test_a_store_of_a_newer_version_is_refused_and_untouched(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    store = open_store(path)
    with pytest.raises(StoreError, match=r"newer outpost.*'9999'") as caught:
        await store.attempts()
    await store.close()
    assert caught.value.hint == "use a newer version of outpost"
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchone() == ("9999",)
        assert connection.execute("SELECT count(*) FROM attempts").fetchone() == (1,)


@pytest.mark.parametrize(
    "query",
    [
        reads._SLOTS,
        reads._TASK,
        reads._QUEUED + reads._BY_RANK,
        reads._QUEUED + reads._BEHIND + reads._DUE + reads._BY_RANK + " LIMIT 50",
        reads._QUEUE_LENGTH,
        reads._QUEUE_LENGTH + reads._BEFORE,
        reads._CHARGE,
        reads._CHARGES,
        reads._CHARGES_OF,
        ledger.COUNTED,
        ledger.SETTLED,
        reads._ALL_ATTEMPTS + " LIMIT 50",
        reads._ACTIVE_ATTEMPTS,
        reads._ACTIVE_ATTEMPTS + " LIMIT 50",
        reads._ATTEMPTS_OF,
        reads._ATTEMPTS_NAMED,
        reads._ATTEMPTS_BEGINNING,
        reads._TASKS_NAMED,
        reads._TASKS_BEGINNING,
        reads._DECISION,
        reads._PENDING_DUTIES,
        reads._DUTIES_OF,
        reads._TRANSITIONS + reads._BY_ID,
        reads._TRANSITIONS + reads._NEWEST + " LIMIT 50",
        reads._TRANSITIONS + reads._OF_TASK + reads._BY_ID + " LIMIT 50",
        "DELETE FROM transitions WHERE at < :before",
    ],
)
def test_no_query_walks_a_table(path: Path, query: str) -> None:
    names = dict.fromkeys(re.findall(r":(\w+)", query), "x")
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute(f"EXPLAIN QUERY PLAN {query}", names).fetchall()
    plan = [str(row[3]) for row in rows]
    allowed = {"SCAN attempts USING INDEX attempts_by_age"} if "LIMIT" in query else set()
    assert {step for step in plan if step.startswith("SCAN")} <= allowed, plan
    if "state IN" in query:
        assert any("attempts_by_state" in step for step in plan), plan
    if "duties" in query or "transitions" in query:
        assert len(plan) == 1, "they come in order from their index"


def test_the_tables_are_fit_for_postgresql() -> None:
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    for table in metadata.sorted_tables:
        text = str(CreateTable(table).compile(dialect=dialect))
        key = next(iter(table.primary_key)).name
        assert f'{key} TEXT COLLATE "C" NOT NULL' in text or "SERIAL" in text
        for index in table.indexes:
            assert str(CreateIndex(index).compile(dialect=dialect))
