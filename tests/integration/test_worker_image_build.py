"""How the worker image is built: what it pins, from where, and what is said where it cannot be."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

from tests.docker_engine import running_engine

PROJECT = Path(__file__).parent.parent.parent
IMAGE_FOLDER = PROJECT / "worker_image"


def test_the_agent_program_is_the_one_the_tests_run() -> None:
    ours = json.loads((IMAGE_FOLDER / "package.json").read_text())["dependencies"]
    tested = json.loads((PROJECT / "tests" / "package.json").read_text())["dependencies"]
    assert ours.items() <= tested.items()
    lock = json.loads((IMAGE_FOLDER / "package-lock.json").read_text())["packages"]
    assert lock[""]["dependencies"] == ours
    assert all(entry["integrity"] for name, entry in lock.items() if name)


def test_python_packages_are_those_of_the_tests() -> None:
    lines = re.compile(r"^[\w.-]+==\S+", re.MULTILINE)
    image = set(lines.findall((IMAGE_FOLDER / "requirements.txt").read_text()))
    tested = set(lines.findall((PROJECT / "constraints.txt").read_text()))
    assert image
    assert image <= tested


def test_an_installed_package_builds_the_same(tmp_path: Path) -> None:
    engine = running_engine()
    package = tmp_path / "site-packages" / "outpost"
    shutil.copytree(PROJECT / "src" / "outpost", package)
    shutil.copytree(IMAGE_FOLDER, package / "worker_image")
    build = [
        str(package / "worker_image" / "build.sh"),
        "slim",
        "--tag",
        "outpost-worker:installed",
    ]
    base = engine.inspect(engine.image("slim"))["Config"]["Labels"][
        "org.opencontainers.image.base.name"
    ]
    try:
        done = subprocess.run(
            [*build, "--base", base], capture_output=True, text=True, timeout=100, check=False
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("outpost-worker:installed: ")
        made = engine.inspect("outpost-worker:installed")["RootFS"]["Layers"]
        assert made[:-1] == engine.inspect(engine.image("slim"))["RootFS"]["Layers"][:-1]
    finally:
        engine.docker("image", "rm", "--force", "outpost-worker:installed")


def test_a_build_that_cannot_be_says_why(tmp_path: Path) -> None:
    def said(*options: str, **variables: str) -> str:
        done = subprocess.run(
            [str(IMAGE_FOLDER / "build.sh"), *options],
            env={**os.environ, **variables}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 1
        return done.stderr

    assert "--speed is no option of build.sh" in said("--speed")
    if shutil.which("docker"):
        nobody = f"unix://{tmp_path}/nobody"
        assert "error: no Docker Engine answers" in said("slim", DOCKER_HOST=nobody)
