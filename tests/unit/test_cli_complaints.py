"""What an outpost said, told with its name."""

from __future__ import annotations

import pytest

from outpost.cli.complaints import told_by


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("FLY_API_TOKEN is not set", "fly-2: FLY_API_TOKEN is not set"),
        ("fly-2 does not answer", "fly-2 does not answer"),
        ("fly-2: no route", "fly-2: no route"),
        ("cannot ask 'fly-2'", "cannot ask 'fly-2'"),
        ("fly-20 is another", "fly-2: fly-20 is another"),
        ("api.fly-2 is a host", "fly-2: api.fly-2 is a host"),
        ("", "fly-2: it said nothing"),
        (" \n", "fly-2: it said nothing"),
    ],
)
def test_the_name_stands_in_front_unless_it_is_there(text: str, told: str) -> None:
    assert told_by("fly-2", text) == told
