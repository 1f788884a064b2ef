"""Builds of templates. They are written down and checked, nothing of them is carried out."""

from __future__ import annotations

import asyncio
import io
import tarfile
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal

from tests.doubles.e2b.calls import Refused
from tests.doubles.e2b.faults import Faults
from tests.doubles.e2b.templates import DEFAULT_TAG, Template, Templates

STEPS = ("COPY", "ENV", "RUN", "USER", "WORKDIR")


@dataclass(kw_only=True)
class Build:
    """One build; ``order`` is what it was started with, ``files`` what its COPY steps bring."""

    template: Template
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    status: Literal["waiting", "building", "ready", "error"] = "waiting"
    order: Mapping[str, Any] = field(default_factory=dict)
    files: dict[str, Sequence[str]] = field(default_factory=dict)
    log: list[dict[str, str]] = field(default_factory=list)
    reason: dict[str, Any] | None = None

    def say(self, message: str, *, level: str = "info", step: str = "") -> None:
        instant = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        entry = {"timestamp": instant, "level": level, "message": message}
        self.log.append(entry | ({"step": step} if step else {}))


class Builds:
    """All builds, the oldest first; ``uploads`` are archives by the hashes of what is in them."""

    def __init__(self, templates: Templates, faults: Faults, build_s: float) -> None:
        self.all: list[Build] = []
        self.uploads: dict[str, bytes] = {}
        self._templates = templates
        self._faults = faults
        self._build_s = build_s

    def request(self, template: Template) -> Build:
        """Announce a build."""
        self.all.append(Build(template=template))
        return self.all[-1]

    def find(self, template_id: str, build_id: str) -> Build:
        """Return one; raises ``Refused``."""
        for build in self.all:
            if build.id == build_id and template_id in (build.template.id, build.template.name):
                return build
        raise Refused(404, f"build '{build_id}' of template '{template_id}' not found")

    async def carry_out(self, build: Build) -> None:
        """Let it go through its steps; in the end the template is there, or why not."""
        build.status = "building"
        build.say("Build started")
        try:
            variables = self._steps(build)
            await asyncio.sleep(self._build_s)
        except _Failed as failed:
            build.say(str(failed), level="error", step=failed.step)
            build.reason = {"message": str(failed), "step": failed.step}
            build.status = "error"
            return
        build.say("Build finished")
        self._templates.put(replace(build.template, variables=variables))
        build.status = "ready"

    def _steps(self, build: Build) -> dict[str, str]:
        """Go through the steps; return the variables that they set."""
        if not (build.order.get("fromImage") or build.order.get("fromTemplate")):
            raise _Failed("base", "no image and no template to begin with")
        variables: dict[str, str] = {}
        for number, step in enumerate(build.order.get("steps", []), start=1):
            kind, arguments = step["type"], step.get("args", [])
            build.say(f"{kind} {' '.join(arguments)}", step=str(number))
            if kind not in STEPS:
                raise _Failed(str(number), f"unknown step type: {kind}")
            if kind == "RUN" and self._faults.take("failing_builds"):
                raise _Failed(str(number), f"failed to run command '{arguments[0]}': exit status 1")
            if kind == "ENV":
                variables |= dict(zip(arguments[::2], arguments[1::2], strict=True))
            if kind == "COPY":
                build.files[arguments[1]] = self._unpacked(str(number), step.get("filesHash"))
        return variables

    def _unpacked(self, step: str, files_hash: str | None) -> Sequence[str]:
        """Return the names in an archive."""
        data = self.uploads.get(files_hash or "")
        if data is None:
            raise _Failed(step, f"files of hash '{files_hash}' were not uploaded")
        try:
            with tarfile.open(fileobj=io.BytesIO(data)) as archive:
                return archive.getnames()
        except tarfile.TarError as exc:
            raise _Failed(step, f"cannot unpack files of hash '{files_hash}': {exc}") from exc


class _Failed(Exception):
    def __init__(self, step: str, message: str) -> None:
        super().__init__(message)
        self.step = step


def template_of(wanted: Mapping[str, Any], template_id: str) -> Template:
    """Return what a request for a build asks for."""
    name, _, tag = str(wanted.get("name") or wanted.get("alias") or "").partition(":")
    if not name:
        raise Refused(400, "Name of the template is missing")
    tags = [*wanted.get("tags", []), *([tag] if tag else [])]
    return Template(
        id=template_id,
        name=name,
        tags=frozenset(tags or [DEFAULT_TAG]),
        cpu_count=wanted.get("cpuCount", 2),
        memory_mib=wanted.get("memoryMB", 1024),
    )
