"""What workers have instead of the remote where only the controller may push.

A bare repository beside them, ``ROOT/relay/KEY.git``: the controller brings the base there and
carries away what is pushed to it, as bundles through the shell. Between it and the remote stands
the controller's mirror. Nothing that leads to the remote is ever at the place.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import posixpath
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import outpost
from outpost.errors import OutpostFault
from outpost.model import Handle
from outpost.ports import Carried, Completed, Parcel
from outpost.runner.cache import RELAYS, key_of
from outpost.runner.mirror import BRANCHES, path_of, there
from outpost.transports.place import ShellPlace
from outpost.transports.shell import ShellOutpost, ShellWorker
from outpost.transports.this_machine import ThisMachine
from outpost.wire.commits import COMMIT
from outpost.wire.errands import Errand, Fetched, Pushed
from outpost.wire.orders import Environment, WorkOrder

PIECE_BYTES = 4 << 20
MIRROR_S = 540.0  # a start may take ten minutes in all
RELAY_S = 300.0
LEFT_S = 86_400.0  # then whoever was at an errand is dead
BUNDLE_MOST_BYTES = 4 << 30  # of what is carried away: a machine may answer without an end
WIP_REFS = "refs/outpost/wip/"
_SECRETS = ("GIT_", "SSH_", "OUTPOST_GIT_")
_OTHERS = re.compile(WIP_REFS + r"w-[a-z0-9-]+/([0-9a-f]{12})")
_MIRROR = (
    "import sys; sys.path.insert(0, sys.argv[1]); from outpost.runner.mirror import main; main()"
)
# $1 is the relay. What others were killed at is not in the way for ever.
_OPEN = """\
set -e; umask 077; new=$1.$$
if [ ! -e "$1/HEAD" ]; then
    mkdir -p "$new"; git init --quiet --bare --template= "$new"
    printf '[gc]\\n\\tauto = 0\\n[maintenance]\\n\\tauto = false\\n' >> "$new/config"
    mv "$new" "$1"; rm -rf "$1/${new##*/}"
fi
cd "$1"
find . -path ./objects -prune -o -type f \\( -name "*.lock" -mmin +10 -o -name "*.bundle*" \\
    -mtime +0 \\) -exec rm -f {} +
"""
_LIST = """\
cd "$1" && git for-each-ref --format="%(objectname) %(refname)"
"""
# $2 is a file, $3 in how many pieces it came; refs on standard input.
_TAKE = """\
set -e; cd "$1"; trap 'rm -f "$2" "$2".*' EXIT
if [ "$3" -gt 0 ]; then
    for n in $(seq "$3"); do cat "$2.$n"; rm "$2.$n"; done > "$2"
    git bundle unbundle "$2" > /dev/null
fi
git update-ref --stdin
"""
# $2 is a file, $3 a worker, $4 its commit or nothing, what follows is for git.
_GIVE = """\
set -e; cd "$1"; file=$2 ref=refs/outpost/carry/$3 commit=$4; shift 4
if [ -n "$commit" ]; then git update-ref "$ref" "$commit"; set -- "$ref" "$@"; fi
git bundle create --quiet "$file" "$@"
"""


class Relay:
    """The relay of one repository at an outpost, whose folder there is ``root``.

    ``url`` is the remote's, without a password: that is in the variables for git.
    """

    def __init__(self, outpost: ShellOutpost, root: str, mirrors: str, url: str) -> None:
        self.path = posixpath.join(root, RELAYS, key_of(url) + ".git")
        self._outpost = outpost
        self._mirrors = mirrors
        self._url = url

    async def prepare(
        self, order: WorkOrder, environment: Environment
    ) -> tuple[WorkOrder, Environment]:
        """Bring what a worker begins at; return its order and variables, without a secret of git's.

        What the remote refuses is the order's trouble, ``unprepared``. Raises ``OutpostFault``.
        """
        git = environment["git"]
        resume = order.get("resume")
        refs = [f"{BRANCHES}{order['branch']}"] if resume else []
        refs += [ref for ref in order.get("from_refs", []) if ref not in refs]
        have = await self._refs(opening=True)
        with self._errand(order["worker_id"], order["task_id"], order["branch"], git) as errand:
            fetched: Fetched = await self._mirror(
                "fetch",
                {
                    **errand,
                    "fence": order.get("fence"),
                    "alone": order.get("alone", False),
                    "have": have,
                    "base": order["base"],
                    "asked_at": order.get("asked_at", time.time()),
                    "refs": refs,
                    "resume": bool(resume),
                },
            )
            changes = _changes(have, fetched["updates"])
            await self._bring(errand["bundle"], changes, _pieces(errand["bundle"]))
        prepared: WorkOrder = {**order, "repo_url": self.path, "base": fetched["base"]}
        if fetched["problem"]:
            prepared["unprepared"] = fetched["problem"]
        if "from_refs" in order:
            prepared["from_refs"] = [*order["from_refs"], *fetched["far"]]
        return prepared, without_secrets(environment)

    async def carry(self, parcel: Parcel, environment: Environment) -> Carried:
        """Carry what a worker pushed here on to the remote; idempotent. Raises ``OutpostFault``."""
        name = parcel.worker_id
        have = await self._refs()
        others = _others(have, f"{WIP_REFS}{parcel.task_id}")
        tips = {**others, **({BRANCHES + parcel.branch: parcel.commit} if parcel.commit else {})}
        with self._errand(name, parcel.task_id, parcel.branch, environment["git"]) as errand:
            asked = {**errand, "have": {**have, **tips}}
            known: list[str] = await self._mirror("known", asked)
            lacking = {ref: tip for ref, tip in tips.items() if tip not in known}
            if lacking:
                await self._fetch(parcel, list(lacking), known, errand["bundle"])
            pushed: Pushed = await self._mirror(
                "push",
                {
                    **errand,
                    "fence": parcel.fence,
                    "ended": parcel.ended,
                    "have": have,
                    "commit": parcel.commit,
                    "others": others,
                },
            )
            await self._bring(errand["bundle"], _changes(have, pushed["updates"]))
        return Carried(
            problem=pushed["problem"],
            superseded=pushed["superseded"],
            where=path_of(self._mirrors, self._url),
        )

    async def _refs(self, *, opening: bool = False) -> dict[str, str]:
        """Return the relay's refs with their commits; what others wrote there is looked at."""
        done = await self._run(_OPEN + _LIST if opening else _LIST)
        rows = (line.partition(" ") for line in done.stdout.decode("utf-8", "replace").splitlines())
        return {ref: commit for commit, _, ref in rows if COMMIT.fullmatch(commit)}

    async def _bring(
        self, bundle: str, changes: Mapping[str, str], pieces: Iterable[bytes] = ()
    ) -> None:
        """Put a bundle there, in pieces, and set refs."""
        if not changes:
            return
        shell, count = (await self._outpost.reach()).shell, 0
        try:
            for piece in pieces:
                count += 1
                await shell.put(f"{self._there(bundle)}.{count}", piece)
        except OSError as exc:
            raise self._fault(f"cannot write to {self._outpost.name}: {exc}") from exc
        lines = (f"update {ref} {tip}" if tip else f"delete {ref}" for ref, tip in changes.items())
        stdin = "".join(f"{line}\n" for line in lines).encode()
        await self._run(_TAKE, self._there(bundle), str(count), stdin=stdin)

    async def _fetch(
        self, parcel: Parcel, lacking: list[str], known: list[str], bundle: str
    ) -> None:
        """Get a bundle of what the mirror lacks, in pieces."""
        there, branch = self._there(bundle), BRANCHES + parcel.branch
        commit = parcel.commit if branch in lacking else ""
        refs = [ref for ref in lacking if ref != branch]
        without = [f"^{tip}" for tip in known]
        await self._run(_GIVE, there, parcel.worker_id, commit, *refs, *without)
        shell = (await self._outpost.reach()).shell
        try:
            with _new(bundle) as file:
                while piece := await shell.get(there, offset=file.tell()):
                    _add(file, piece)
        except OSError as exc:
            raise self._fault(f"cannot read from {self._outpost.name}: {exc}") from exc

    def _there(self, bundle: str) -> str:
        """Return what the file of an errand is called there."""
        return posixpath.join(self.path, Path(bundle).parent.name + ".bundle")

    async def _run(self, script: str, *arguments: str, stdin: bytes = b"") -> Completed:
        argv = ["sh", "-c", script, "sh", self.path, *arguments]
        done = await self._outpost.run(argv, stdin=stdin, timeout_s=RELAY_S)
        if done.exit_code:
            what = f"git on {self._outpost.name} failed in {self.path}: {done.complaint}"
            raise self._fault(what)
        return done

    @contextlib.contextmanager
    def _errand(
        self, worker_id: str, task_id: str, branch: str, git: Mapping[str, str]
    ) -> Iterator[Errand]:
        """Yield the beginnings of an errand, with room for its bundle as long as it lasts."""
        folder = Path(self._mirrors)
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _clear(folder)
            room = tempfile.TemporaryDirectory(prefix=f"{worker_id}.", dir=folder)
        except OSError as exc:
            raise self._fault(f"cannot write to {folder}: {exc.strerror}") from exc
        with room as scratch:
            yield {
                "folder": self._mirrors,
                "url": self._url,
                "environment": dict(git),
                "task_id": task_id,
                "worker_id": worker_id,
                "fence": None,
                "alone": False,
                "branch": branch,
                "have": {},
                "bundle": str(Path(scratch, "bundle")),
            }

    async def _mirror(self, verb: str, errand: Mapping[str, object]) -> Any:
        """Have a program of its own see to the mirror: what it gets, no other process sees."""
        package = str(Path(outpost.__file__).parent.parent)
        argv = [sys.executable, "-I", "-S", "-c", _MIRROR, package, verb]
        stdin = json.dumps(errand).encode()
        try:
            done = await ThisMachine().run(argv, stdin=stdin, timeout_s=MIRROR_S)
        except OSError as exc:
            raise self._fault(f"cannot {verb} for {self._outpost.name}: {exc}") from exc
        if done.exit_code:
            raise self._fault(f"cannot {verb} for {self._outpost.name}: {done.complaint}")
        return json.loads(done.stdout)

    def _fault(self, message: str) -> OutpostFault:
        return OutpostFault(message, outpost=self._outpost.name)


class RelayedOutpost(ShellOutpost):
    """A shell outpost whose workers can do without a way to the remote.

    ``mirrors`` is a folder on this machine; ``push_via`` says who pushes for workers yet to start.
    """

    mirrors: str
    push_via: str = "worker"

    async def prepare(
        self, place: ShellPlace, order: WorkOrder, environment: Environment
    ) -> tuple[WorkOrder, Environment]:
        order, environment = await super().prepare(place, order, environment)
        if self.push_via != "controller":
            return order, environment
        relay = Relay(self, place.root, self.mirrors, order["repo_url"])
        return await relay.prepare(order, environment)

    def worker(self, handle: Handle) -> RelayedWorker:
        super().worker(handle)  # which refuses another's
        return RelayedWorker(self, handle)


class RelayedWorker(ShellWorker):
    """A worker whose work the controller may have to push."""

    def __init__(self, outpost: RelayedOutpost, handle: Handle) -> None:
        super().__init__(outpost, handle)
        self._relayed = outpost
        self._root = posixpath.dirname(posixpath.dirname(handle.data["directory"]))

    async def recover(self, environment: Environment) -> bool:
        if self._relayed.push_via == "controller":
            environment = without_secrets(environment)
        return await super().recover(environment)

    async def carry(self, parcel: Parcel, environment: Environment) -> Carried:
        outpost = self._relayed
        relay = Relay(outpost, self._root, outpost.mirrors, parcel.repo_url)
        return await relay.carry(parcel, environment)


def _pieces(path: str) -> Iterator[bytes]:
    """Yield what a file holds, if it is there."""
    with contextlib.suppress(FileNotFoundError), Path(path).open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            yield piece


def _new(path: str) -> BinaryIO:
    return Path(path).open("wb")


def _clear(folder: Path) -> None:
    """Remove what errands left that were killed."""
    for left in folder.glob("w-*"):
        # Another process may be done with its own just now.
        with contextlib.suppress(FileNotFoundError):
            if left.stat().st_mtime < time.time() - LEFT_S:
                shutil.rmtree(left, ignore_errors=True)


def _add(file: BinaryIO, piece: bytes) -> None:
    """Add to a bundle; raises ``OSError`` where it gets too large."""
    if file.tell() + len(piece) > BUNDLE_MOST_BYTES:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
    file.write(piece)


def _changes(have: Mapping[str, str], updates: Mapping[str, str]) -> dict[str, str]:
    return {ref: tip for ref, tip in updates.items() if have.get(ref, "") != tip}


def without_secrets(environment: Environment) -> Environment:
    """Return the variables for a place that has no way to the remote."""
    git = environment["git"]
    clean = {name: git[name] for name in git if not name.startswith(_SECRETS)}
    return {"agent": environment["agent"], "git": clean}


def _others(have: Mapping[str, str], checkpoint: str) -> dict[str, str]:
    """Return what is to be pushed besides a branch: work in progress that the remote lacks.

    An agent can write there: only what is called by a worker and its own commit is in nobody's way.
    """
    named = {ref: _OTHERS.fullmatch(ref) for ref in have}
    return {
        ref: have[ref]
        for ref, name in named.items()
        if (ref == checkpoint or (name and have[ref].startswith(name[1])))
        and have.get(there(ref)) != have[ref]
    }
