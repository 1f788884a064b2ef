"""What E2B's API says of sandboxes: one by itself, and pages of many."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, unquote

from tests.doubles.e2b.calls import Call, Refused, Reply
from tests.doubles.e2b.sandbox import ENVD_VERSION, Sandbox
from tests.doubles.e2b.templates import DISK_MIB

CLIENT_ID = "6532622b"
PAGE = 100


def row(sandbox: Sandbox, skew_s: float) -> dict[str, Any]:
    """Return a sandbox as lists have it, by a clock that is ahead of ours."""
    template = sandbox.wanted.template
    return {
        "templateID": template.id,
        "alias": template.name,
        "sandboxID": sandbox.id,
        "clientID": CLIENT_ID,
        "startedAt": _instant(sandbox.started_at, skew_s),
        "endAt": _instant(sandbox.end_at, skew_s),
        "cpuCount": template.cpu_count,
        "memoryMB": template.memory_mib,
        "diskSizeMB": DISK_MIB,
        "metadata": dict(sandbox.wanted.metadata),
        # A list that lags shows what has ended as it was.
        "state": "running" if sandbox.state == "ended" else sandbox.state,
        "envdVersion": ENVD_VERSION,
    }


def detail(sandbox: Sandbox, skew_s: float) -> dict[str, Any]:
    """Return all that the API says of one."""
    wanted = sandbox.wanted
    lifecycle = {
        "autoResume": wanted.auto_resume,
        "onTimeout": "pause" if wanted.auto_pause else "kill",
    }
    return {
        **row(sandbox, skew_s),
        "envdAccessToken": sandbox.token,
        "allowInternetAccess": wanted.internet,
        "domain": None,
        "lifecycle": lifecycle,
        **({"network": sandbox.network} if sandbox.network else {}),
    }


def page(sandboxes: list[Sandbox], call: Call, skew_s: float) -> Reply:
    """Return a page of those that the query is about; raises ``Refused``."""
    query = call.query
    metadata = _metadata(query.get("metadata", "")).items()
    states = query.get("state", "running,paused").split(",")
    rows = [row(it, skew_s) for it in sandboxes]
    rows = [
        it
        for it in rows
        if it["state"] in states
        and metadata <= it["metadata"].items()
        and query.get("template") in (None, it["templateID"], it["alias"])
        and _is_after(it, query.get("startedAfter"))
    ]
    newest_first = query.get("order", "desc") == "desc"
    rows.sort(key=_place, reverse=newest_first)
    running = sum(it["state"] == "running" for it in rows)
    headers = {"x_total_running": str(running)} if "running" in states else {}
    if token := query.get("nextToken"):
        last = _read_token(token)
        rows = [it for it in rows if (_place(it) < last if newest_first else _place(it) > last)]
    most = int(query.get("limit", PAGE))
    if len(rows) > most:
        rows = rows[:most]
        headers["x_next_token"] = _token(rows[-1])
    return Reply.of(200, rows, **headers)


def _metadata(text: str) -> dict[str, str]:
    """Return the pairs of a query whose names and values are quoted once more."""
    return {unquote(name): unquote(value) for name, value in parse_qsl(text)}


def _is_after(found: dict[str, Any], instant: str | None) -> bool:
    if instant is None:
        return True
    return datetime.fromisoformat(found["startedAt"]) >= datetime.fromisoformat(instant)


def _place(found: dict[str, Any]) -> tuple[str, str]:
    return found["startedAt"], found["sandboxID"]


def _token(found: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode("__".join(_place(found)).encode()).decode()


def _read_token(token: str) -> tuple[str, str]:
    try:
        instant, sandbox_id = base64.urlsafe_b64decode(token).decode().split("__")
    except ValueError as exc:
        raise Refused(400, "Invalid next token") from exc
    return instant, sandbox_id


def _instant(instant: datetime, skew_s: float) -> str:
    there = instant.astimezone(UTC) + timedelta(seconds=skew_s)
    return there.isoformat(timespec="microseconds").replace("+00:00", "Z")
