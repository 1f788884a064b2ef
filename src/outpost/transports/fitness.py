"""Whether a machine can take work: one look by its own shell, and what to type where it cannot."""

from __future__ import annotations

import re

from outpost.model import Health

GIT_LEAST = (2, 29)  # `git fetch --no-write-fetch-head`, October 2020
# Prints a word and what it is about on each line. $1 is the folder of all work, the rest programs.
LOOK = """\
d=$1; shift
for p in "$@"; do command -v "$p" >/dev/null 2>&1 || echo "missing $p"; done
echo "git $(git --version 2>/dev/null)"
while [ ! -d "$d" ]; do d=${d%/*}; [ "$d" ] || d=/; done
[ -w "$d" ] || echo "closed $d"
echo "free $(df -Pk "$d" | tail -n 1 | tr -s ' ' | cut -d ' ' -f 4) $d"
echo "system $( (. /etc/os-release; echo "$ID $ID_LIKE") 2>/dev/null)"
"""
_INSTALL = {
    "debian": "sudo apt-get install -y",
    "ubuntu": "sudo apt-get install -y",
    "fedora": "sudo dnf install -y",
    "rhel": "sudo dnf install -y",
    "alpine": "sudo apk add",
    "arch": "sudo pacman -S --noconfirm",
    "suse": "sudo zypper install -y",
}


def judge(said: str, least_mib: int) -> Health:
    """Return how a machine is that answered ``LOOK`` so."""
    told: dict[str, list[str]] = {}
    for line in said.splitlines():
        word, _, rest = line.partition(" ")
        told.setdefault(word, []).append(rest)
    if missing := told.get("missing"):
        names = " and ".join(missing)
        are = "are" if len(missing) > 1 else "is"
        return Health(
            ok=False, detail=f"{names} {are} not installed there", hint=_install(missing, told)
        )
    version = re.search(r"([0-9]{1,9})\.([0-9]{1,9})[.0-9]*", "".join(told.get("git", [])))
    if version and tuple(map(int, version.groups())) < GIT_LEAST:
        least = ".".join(map(str, GIT_LEAST))
        return Health(
            ok=False,
            detail=f"git {version.group()} there is too old: {least} or newer is needed",
            hint="install a newer git there, for example from the backports of its distribution",
        )
    if closed := told.get("closed"):
        return Health(
            ok=False,
            detail=f"nothing can be written to {closed[0]} there",
            hint="say another work_dir: for this outpost in the configuration",
        )
    free_kib, _, folder = told.get("free", [""])[0].partition(" ")
    if not re.fullmatch("[0-9]{1,18}", free_kib):
        return Health(ok=False, detail=f"its disk cannot be looked at: {said.strip()[-200:]}")
    free_mib = int(free_kib) // 1024
    if free_mib < least_mib:
        return Health(
            ok=False,
            detail=f"only {free_mib} MiB are free at {folder} there, less than min_free_mib"
            f" ({least_mib})",
            hint="outpost prune",
        )
    return Health(ok=True, detail=f"{free_mib:,} MiB free at {folder}")


def _install(programs: list[str], told: dict[str, list[str]]) -> str:
    """Return the command that installs programs there."""
    for name in " ".join(told.get("system", [])).split():
        if name in _INSTALL:
            return f"there: {_INSTALL[name]} {' '.join(programs)}"
    return f"install {' and '.join(programs)} there"
