"""Our own folder on this machine: the room there, the store in it, and who may read it."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path

from outpost.control.checks import Check, fixed, problem, warning, well
from outpost.errors import StoreError
from outpost.runner.disk import free_mib
from outpost.store import name_of
from outpost.store.connection import HEAD
from outpost.store.look import look_at

LEAST_MIB = 100  # the store and the logs of a day
FEW_MIB = 1024
OTHERS = stat.S_IRWXG | stat.S_IRWXO


def check_room(home: Path) -> Check:
    """Say how much room there is where everything is kept."""
    free = free_mib(str(home))
    detail = f"{free:,} MiB are free at {home}"
    if free < LEAST_MIB:
        return problem("disk", f"only {detail}", "outpost prune")
    if free < FEW_MIB:
        return warning("disk", f"only {detail}", "outpost prune")
    return well("disk", detail)


async def check_store(url_or_path: str | Path) -> tuple[Check, bool]:
    """Look at the store without touching it; return also whether there is one to be read."""
    try:
        name = name_of(url_or_path)
        look = await asyncio.to_thread(look_at, url_or_path)
    except StoreError as exc:
        return problem("store", exc.message, exc.hint), False
    if look is None:
        return well("store", f"no store yet: {name} is made when the first issue is spawned"), False
    if look.damage:
        hint = f"copy it away, and then: sqlite3 {name} .recover"
        return problem("store", f"the store {name} is damaged: {look.damage}", hint), False
    if look.revision is not None and look.revision > HEAD:
        detail = f"the store {name} was written by a newer outpost (schema {look.revision})"
        return problem("store", detail, "use a newer version of outpost"), False
    if look.revision != HEAD:
        detail = f"the store {name} has an older schema ({look.revision or 'no tables yet'})"
        return warning("store", detail, "outpost ps  brings it up to date"), False
    read = "" if look.whole else "; too large to be read whole just now"
    return well("store", f"{name}, schema {look.revision}{read}"), True


def check_modes(store: Path | None, *, fix: bool) -> list[Check]:
    """Find the store's files that others on this machine may read or write.

    ``None``: a server keeps the store, no file of this machine.
    """
    if store is None:
        return []
    checks = []
    for path in sorted(store.parent.glob(f"{store.name}*")):
        try:
            mode = stat.S_IMODE(path.stat().st_mode)
        except FileNotFoundError:
            continue  # SQLite's own files go with whoever else closed the store just now
        if not mode & OTHERS:
            continue
        if fix:
            path.chmod(mode & ~OTHERS)
            checks.append(fixed(path.name, f"{path} is shut for others now (it was {mode:04o})"))
        else:
            detail = f"{path} can be opened by others (mode {mode:04o})"
            checks.append(warning(path.name, detail, "outpost doctor --fix"))
    return checks
