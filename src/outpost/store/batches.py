"""Many rows in one parameter, or in one answer: the database goes through them in a single step.

Row by row a driver lets go of the interpreter each time, and has to wait until it gets it back.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import (
    JSON,
    Column,
    ColumnElement,
    Connection,
    Executable,
    Select,
    Subquery,
    Table,
    Text,
    bindparam,
    cast,
    func,
    literal_column,
    select,
    update,
)

from outpost.store.rows import Values

Known = Mapping[Any, Any]
"""Columns of a row, by name."""


def update_all(connection: Connection, table: Table, key: str, rows: Sequence[Values]) -> None:
    """Give the same columns of many rows new values; ``key`` is the column that tells which."""
    if rows:
        statement = _update(connection.dialect.name, table, key, tuple(rows[0]))
        connection.execute(statement, {"rows": _packed(row.values() for row in rows)})


def select_all(
    connection: Connection, query: Select[Any], key: Column[Any], values: Iterable[object]
) -> list[Known]:
    """Return the rows of a query over numbers and texts that have one of these values."""
    statement = _select(connection.dialect.name, query, key)
    found = connection.scalar(statement, {"rows": _packed((value,) for value in values)})
    names = query.selected_columns.keys()
    return [dict(zip(names, row, strict=True)) for row in json.loads(found or "[]")]


def _packed(rows: Iterable[Iterable[object]]) -> str:
    return json.dumps([list(row) for row in rows])


@cache
def _update(dialect: str, table: Table, key: str, names: tuple[str, ...]) -> Executable:
    given = _given(dialect, [table.c[name] for name in names])
    values = {name: given.c[name] for name in names if name != key}
    return update(table).values(values).where(table.c[key] == given.c[key])


@cache
def _select(dialect: str, query: Select[Any], key: Column[Any]) -> Select[Any]:
    given = _given(dialect, [key])
    rows = query.where(key.in_(select(given.c[key.name]))).subquery("found")
    if dialect == "sqlite":
        return select(func.json_group_array(func.json_array(*rows.c)))
    return select(cast(func.json_agg(func.json_build_array(*rows.c)), Text))


def _given(dialect: str, columns: Sequence[Column[Any]]) -> Subquery:
    """Return the rows handed over in the parameter ``rows``: an array of arrays."""
    rows = bindparam("rows", type_=Text)
    if dialect == "sqlite":
        each = func.json_each(rows).table_valued("value", name="given")
        cells: list[ColumnElement[Any]] = [
            func.json_extract(each.c.value, f"$[{at}]") for at in range(len(columns))
        ]
    else:
        each = func.json_array_elements(cast(rows, JSON)).table_valued("value", name="given")
        cells = [
            cast(each.c.value.op("->>")(literal_column(str(at))), column.type)
            for at, column in enumerate(columns)
        ]
    labelled = [cell.label(column.name) for cell, column in zip(cells, columns, strict=True)]
    return select(*labelled).subquery("news")
