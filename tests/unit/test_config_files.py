"""How a configuration file gets another text: whole or not at all, and as the file that it was."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from outpost.config.files import ConfigFile, read
from outpost.errors import ConfigError, UserError

BEFORE = "outposts: [{name: a, type: local}]\n"
AFTER = "outposts: [{name: b, type: local}]\n"


def at(path: Path) -> ConfigFile:
    return read(str(path), environment={}, directory=path.parent)


def test_which_file_it_is(tmp_path: Path) -> None:
    home, here = tmp_path / "home", tmp_path / "here"
    here.mkdir()
    usual = home / ".config/outpost/outposts.yaml"
    environment = {"HOME": str(home)}
    assert read(environment=environment, directory=here).path == usual
    named = read("x.yaml", environment=environment, directory=here)
    assert (named.path, named.data, named.text) == (here / "x.yaml", None, "")
    by_variable = {**environment, "OUTPOST_CONFIG": "y.yaml"}
    assert read(environment=by_variable, directory=here).path == here / "y.yaml"
    (here / "outposts.yaml").write_text(BEFORE)
    found = read(environment=environment, directory=here)
    assert (found.path, found.shown, found.text) == (
        here / "outposts.yaml",
        "outposts.yaml",
        BEFORE,
    )


def test_a_new_file_gets_its_folders(tmp_path: Path) -> None:
    path = tmp_path / "a/b/outposts.yaml"
    assert at(path).replace(AFTER).outposts[0].name == "b"
    assert path.read_text() == AFTER


def test_mode_link_and_byte_order_mark_stay(tmp_path: Path) -> None:
    path, link = tmp_path / "real/outposts.yaml", tmp_path / "outposts.yaml"
    path.parent.mkdir()
    path.write_bytes(b"\xef\xbb\xbf" + BEFORE.replace("\n", "\r\n").encode())
    path.chmod(0o640)
    link.symlink_to("real/outposts.yaml")
    at(link).replace(AFTER.replace("\n", "\r\n"))
    assert link.is_symlink()
    assert path.read_bytes() == b"\xef\xbb\xbf" + AFTER.replace("\n", "\r\n").encode()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.skipif(os.getuid() != 0, reason="only root may give files away")
def test_the_owner_stays(tmp_path: Path) -> None:
    path = tmp_path / "outposts.yaml"
    path.write_text(BEFORE)
    os.chown(path, 1234, 1235)
    at(path).replace(AFTER)
    assert (path.stat().st_uid, path.stat().st_gid) == (1234, 1235)


def test_a_text_that_would_not_load_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "outposts.yaml"
    path.write_text(BEFORE)
    with pytest.raises(ConfigError, match="expected a list"):
        at(path).replace("outposts: 3\n")
    assert path.read_text() == BEFORE


@pytest.mark.parametrize("meanwhile", [BEFORE + "# mine\n", None])
def test_what_was_changed_meanwhile_is_not_overwritten(
    tmp_path: Path, meanwhile: str | None
) -> None:
    path = tmp_path / "outposts.yaml"
    path.write_text(BEFORE)
    file = at(path)
    path.unlink() if meanwhile is None else path.write_text(meanwhile)
    with pytest.raises(UserError, match="changed by somebody else meanwhile"):
        file.replace(AFTER)
    assert (path.read_text() if path.exists() else None) == meanwhile
    assert len(list(tmp_path.iterdir())) == (meanwhile is not None)


def test_a_file_that_appeared_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "outposts.yaml"
    file = at(path)
    path.write_text(BEFORE)
    with pytest.raises(UserError, match="changed by somebody else meanwhile"):
        file.replace(AFTER)
    assert path.read_text() == BEFORE


def test_where_no_file_can_be_the_error_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"outposts\.yaml cannot be written: "):
        at(tmp_path / "file/outposts.yaml").replace(AFTER)
    (tmp_path / "folder").mkdir()
    with pytest.raises(ConfigError, match="is a directory, not a file"):
        at(tmp_path / "folder")


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "outposts.yaml"
    path.write_text(BEFORE)
    with pytest.raises(UserError, match="UTF-8"):
        at(path).replace(AFTER + "# \udc80\n")
