"""Errands of the controller to its own copy of a repository, ``runner.mirror``: one JSON object.

Types only; nothing here is needed when it runs.
"""

from __future__ import annotations

from typing import TypedDict


class Errand(TypedDict):
    """Whose errand it is. ``folder`` holds the mirrors, ``environment`` is git's, with secrets.

    ``have`` are the relay's refs with their commits, ``bundle`` is the file that travels.
    """

    folder: str
    url: str
    environment: dict[str, str]
    task_id: str
    worker_id: str
    fence: int | None
    alone: bool
    branch: str
    have: dict[str, str]
    bundle: str


class Fetching(Errand):
    """``refs`` are brought where the remote has them; ``resume``: ``branch`` may do as base."""

    base: str | None
    asked_at: float
    refs: list[str]
    resume: bool


class Fetched(TypedDict):
    """``base`` is the relay's name for it, ``updates`` are its new refs, ``far`` those beside its
    own. ``problem``: why the remote did not give it, else empty.
    """

    base: str | None
    updates: dict[str, str]
    far: list[str]
    problem: str


class Pushing(Errand):
    """``commit`` is for ``branch`` (empty: nothing is), ``others`` are refs to push as they are."""

    commit: str
    others: dict[str, str]
    ended: bool


class Pushed(TypedDict):
    """``updates`` are the relay's new refs (empty: gone). ``problem``: why it was not pushed."""

    updates: dict[str, str]
    problem: str
    superseded: bool
