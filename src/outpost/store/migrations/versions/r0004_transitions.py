"""The log of the federation, leases, and what else is known of an attempt."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def _words() -> sa.types.TypeEngine[str]:
    return sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Let attempts say more; keep what happened, and who looks after what."""
    _extend_attempts()
    op.create_table(
        "transitions",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True),
        sa.Column("at", sa.BigInteger(), nullable=False),
        *(sa.Column(name, _words(), nullable=False) for name in ("task_id", "attempt_id")),
        sa.Column("outpost", _words(), nullable=False),
        sa.Column("before", _words()),
        *(sa.Column(name, _words(), nullable=False) for name in ("after", "by", "reason")),
        sqlite_autoincrement=True,
    )
    op.create_index("transitions_by_task", "transitions", ["task_id", "id"])
    op.create_index("transitions_by_time", "transitions", ["at"])
    op.create_table(
        "leases",
        sa.Column("name", _words(), primary_key=True),
        sa.Column("holder", _words(), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
    )


def _extend_attempts() -> None:
    for column in (
        sa.Column("told", _words(), nullable=False, server_default="starting"),
        sa.Column("died", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("stop_asked", _words(), nullable=False, server_default=""),
        sa.Column("checkpoint", _words(), nullable=False, server_default=""),
    ):
        op.add_column("attempts", column)
    attempts = sa.table("attempts", sa.column("state"), sa.column("told"))
    state = attempts.c.state
    running = state.in_(["starting", "working", "waiting", "pushing"])
    told = sa.case((running, state), (state == "reserved", "starting"), else_="working")
    op.execute(attempts.update().values(told=told))
