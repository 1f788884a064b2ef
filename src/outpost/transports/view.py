"""The live view of a worker: a tmux session beside it, on a tmux server of the federation's own."""

from __future__ import annotations

import posixpath

from outpost.transports.place import ShellPlace
from outpost.wire.orders import View, WorkOrder

TMUX_CONF = b"""\
set -g history-limit 50000
set -g status-left-length 40
set -g status-left "#S "
set -g status-right-length 60
set -g status-right "C-b d detaches, closing this stops the work"
set -g window-status-format ""
set -g window-status-current-format ""
"""
# Shows the pipe $1 until its writer goes; each line typed meanwhile goes into a file beside it.
_SHOW = """\
exec 3<&0
(while IFS= read -r line; do printf '%s\\n' "$line" >> "${1%/*}/typed"; done) <&3 &
cat "$1"
kill $!
"""


def view_of(place: ShellPlace, order: WorkOrder, runner: str, directory: str) -> View:
    """Return the command that opens the live view: a detached tmux session named as the worker.

    Without one of its own it shows the named pipe that the runner adds, and hands on what is
    typed. ``interactive`` it is the agent's own screen.
    """
    size = ("-x", "160", "-y", "50")
    shown: tuple[str, ...] = ("sh", "-c", _SHOW, "sh")
    if order.get("interactive"):
        shown = (place.python, "-I", "-S", runner, "screen", directory)
    session = ("new-session", "-d", *size, "-s", order["worker_id"], "-c", "/", *shown)
    return {"argv": [*tmux(place), *session], "environment": dict(place.environment)}


def tmux(place: ShellPlace) -> list[str]:
    return [place.tmux, "-L", place.socket, "-f", posixpath.join(place.root, "runner", "tmux.conf")]
