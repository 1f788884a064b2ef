"""The tables, fit for SQLite and PostgreSQL alike.

Whoever changes a table adds a revision under ``migrations/versions`` and moves
``connection.HEAD``; a test compares what the revisions build with what is declared here.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
)

# Prefixes are looked up as ranges, which needs an order by code point.
Words = Text().with_variant(Text(collation="C"), "postgresql")
# Whole microseconds since 1970: exact, and in order on every database.
Instant = BigInteger()
# A document nobody queries by its parts.
Json = Text()

metadata = MetaData()

federation = Table(
    "federation",
    metadata,
    Column("id", Words, primary_key=True),
    Column("created_at", Instant, nullable=False),
)

tasks = Table(
    "tasks",
    metadata,
    Column("id", Words, primary_key=True),
    Column("issue_id", Words, nullable=False),
    Column("source", Words, nullable=False),
    Column("title", Words, nullable=False),
    Column("body", Words, nullable=False),
    Column("repo_url", Words, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("agent_name", Words, nullable=False),
    Column("agent_argv", Json, nullable=False),
    Column("url", Words),
    Column("base", Words),
    Column("priority", Integer, nullable=False),
    Column("labels", Json, nullable=False),
    Column("type", Words),
    Column("epic", Words),
    Column("estimate_s", Float),
    Column("time_limit_s", Float),
    Column("outpost", Words),
    Column("state", Words, nullable=False),
    Column("reason", Words, nullable=False),
    # Numbers and fences come from here, so that a forgotten attempt's are not given out again.
    Column("attempts_made", Integer, nullable=False),
    Column("pr", Words),
    Column("write_back", Json, nullable=False, server_default="[]"),
    Column("resumes", Words),
    Column("interactive", Integer, nullable=False, server_default="0"),
    Column("source_folder", Words),
    Column("requires", Json, nullable=False, server_default="{}"),
    Column("sensitivity", Words),
    Column("max_cost_microusd", BigInteger),
    Column("token_budget_microusd", BigInteger),
    Column("retries", Integer, nullable=False, server_default="0"),
    Column("due_at", Instant),
    # ``Task.rank``: priority and age in one number, so that the next of a queue is found at once.
    Column("rank", Instant, nullable=False, server_default="0"),
    # Ends with what says whether a task may be tried yet: others are passed by within the index.
    Index("tasks_by_rank", "state", "rank", "id", "due_at"),
    Index("tasks_by_issue", "issue_id"),
)

attempts = Table(
    "attempts",
    metadata,
    Column("id", Words, primary_key=True),
    Column("task_id", ForeignKey("tasks.id", ondelete="CASCADE"), nullable=False),
    Column("issue_id", Words, nullable=False),
    Column("number", Integer, nullable=False),
    Column("fence", Integer, nullable=False),
    Column("outpost", Words, nullable=False),
    Column("kind", Words, nullable=False),
    Column("branch", Words, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("state", Words, nullable=False),
    Column("reason", Words, nullable=False),
    Column("handle", Json),
    Column("started_at", Instant),
    Column("ended_at", Instant),
    Column("seen_at", Instant),
    Column("seq", BigInteger, nullable=False),
    Column("offset", BigInteger, nullable=False),
    Column("activity", Words, nullable=False),
    Column("active_at", Instant),
    Column("input_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("cache_read_tokens", BigInteger, nullable=False),
    Column("cache_write_tokens", BigInteger, nullable=False),
    Column("cost_microusd", BigInteger),
    Column("commit", Words),
    Column("pr_url", Words),
    Column("summary", Words, nullable=False),
    Column("exit_code", Integer),
    Column("session_id", Words),
    Column("kept_how", Words, nullable=False),
    Column("kept_where", Words, nullable=False),
    Column("told", Words, nullable=False, server_default="starting"),
    Column("died", Integer, nullable=False, server_default="0"),
    # Written by whoever asks, never by whoever stores what was learnt.
    Column("stop_asked", Words, nullable=False, server_default=""),
    Column("checkpoint", Words, nullable=False, server_default=""),
    # Led by the state: what is active is found without touching what has ended.
    Index("attempts_by_state", "state", "outpost"),
    Index("attempts_by_task", "task_id", "number", unique=True),
    Index("attempts_by_issue", "issue_id"),
    Index("attempts_by_branch", "branch"),
    Index("attempts_by_age", "created_at", "number", "id"),
)

decisions = Table(
    "decisions",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("task_id", ForeignKey("tasks.id", ondelete="CASCADE"), nullable=False),
    # Absent: the task was held back. A task keeps its newest such decision only.
    Column("attempt_id", ForeignKey("attempts.id", ondelete="CASCADE")),
    Column("decided_at", Instant, nullable=False),
    Column("candidates", Json, nullable=False),
    Column("refused", Json, nullable=False),
    # Why the first candidate is that. Of old rows, whose candidates are bare names, the only word.
    Column("rule", Words, nullable=False),
    Column("notes", Json, nullable=False, server_default="[]"),
    Index("decisions_by_task", "task_id"),
    Index("decisions_by_attempt", "attempt_id"),
)

duties = Table(
    "duties",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("task_id", ForeignKey("tasks.id", ondelete="CASCADE"), nullable=False),
    # Absent: the task was taken back before any attempt.
    Column("attempt_id", ForeignKey("attempts.id", ondelete="CASCADE")),
    Column("kind", Words, nullable=False),
    Column("state", Words, nullable=False),
    # Counted as a try begins: whoever settles it must still know this number.
    Column("tries", Integer, nullable=False),
    Column("due_at", Instant, nullable=False),
    Column("detail", Words, nullable=False),
    Index("duties_by_state", "state", "due_at", "id"),
    Index("duties_by_task", "task_id"),
    Index("duties_by_attempt", "attempt_id", "kind", unique=True),
)

# Outlives the attempt it is named after, and its task.
charges = Table(
    "charges",
    metadata,
    Column("attempt_id", Words, primary_key=True),
    Column("task_id", Words, nullable=False),
    Column("issue_id", Words, nullable=False),
    Column("outpost", Words, nullable=False),
    Column("kind", Words, nullable=False),
    Column("agent", Words, nullable=False),
    Column("repo", Words, nullable=False),
    Column("started_at", Instant, nullable=False),
    Column("held_until", Instant, nullable=False),
    Column("microusd_per_hour", BigInteger),
    Column("price_source", Words, nullable=False),
    Column("token_budget_microusd", BigInteger, nullable=False),
    Column("tokens_microusd", BigInteger, nullable=False),
    Column("tokens_known", Integer, nullable=False),
    # Absent: it is open. Both are found by this index, the open and those that ended of late.
    Column("ended_at", Instant),
    Index("charges_by_end", "ended_at"),
    Index("charges_by_task", "task_id"),
)

# What settled charges add up to by when they ended, so that no cap is summed up from all of them:
# once for every quarter of an hour, where days begin in any time zone, and once for every UTC day.
spent = Table(
    "spent",
    metadata,
    Column("span", Words, primary_key=True),
    Column("bucket", Instant, primary_key=True, autoincrement=False),
    Column("outpost", Words, primary_key=True),
    Column("microusd", BigInteger, nullable=False),
)

breakers = Table(
    "breakers",
    metadata,
    Column("outpost", Words, primary_key=True),
    Column("scope", Words, primary_key=True),
    Column("failures", Integer, nullable=False),
    Column("trips", Integer, nullable=False),
    Column("open_until", Instant),
    Column("trouble", Words, nullable=False),
    Column("reason", Words, nullable=False),
    Column("probe", Words, nullable=False),
    Column("probe_until", Instant),
)

# Outlives the tasks and attempts it tells of, until it is trimmed: so it refers to none of them.
transitions = Table(
    "transitions",
    metadata,
    Column("id", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True),
    Column("at", Instant, nullable=False),
    Column("task_id", Words, nullable=False),
    Column("attempt_id", Words, nullable=False),
    Column("outpost", Words, nullable=False),
    Column("before", Words),
    Column("after", Words, nullable=False),
    Column("by", Words, nullable=False),
    Column("reason", Words, nullable=False),
    Index("transitions_by_task", "task_id", "id"),
    Index("transitions_by_time", "at"),
    # Who has read up to an id asks for what follows it: one that was trimmed never comes again.
    sqlite_autoincrement=True,
)

# A lease that ended stays, so that its fence keeps rising.
leases = Table(
    "leases",
    metadata,
    Column("name", Words, primary_key=True),
    Column("holder", Words, nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("until", Instant, nullable=False),
)
