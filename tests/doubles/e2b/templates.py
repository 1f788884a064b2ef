"""The templates that sandboxes are made from."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from tests.doubles.e2b.calls import Refused

ID_BYTES = 10
DISK_MIB = 10_240
DEFAULT_TAG = "default"


@dataclass(frozen=True, kw_only=True)
class Template:
    """One template; ``variables`` are found by every process of its sandboxes."""

    id: str
    name: str
    tags: frozenset[str] = frozenset({DEFAULT_TAG})
    cpu_count: int = 2
    memory_mib: int = 512
    variables: Mapping[str, str] = field(default_factory=dict)


class Templates:
    """All that there are, by their names; E2B's own ``base`` is always there."""

    def __init__(self) -> None:
        self._named: dict[str, Template] = {}
        self.put(Template(id="rki5dems9wqfm4r03t7g", name="base"))

    def put(self, template: Template) -> Template:
        """Add one, or a build of one: it keeps its id and all its tags."""
        if known := self._named.get(template.name):
            template = replace(template, id=known.id, tags=template.tags | known.tags)
        self._named[template.name] = template
        return template

    def find(self, reference: str) -> Template:
        """Return what a name or an id means, with or without a tag; raises ``Refused``."""
        name, _, tag = reference.rpartition("/")[2].partition(":")
        for template in self._named.values():
            if name in (template.name, template.id):
                if (tag or DEFAULT_TAG) in template.tags:
                    return template
                what = f"template '{name}' with tag '{tag or DEFAULT_TAG}' not found"
                raise Refused(404, what)
        raise Refused(404, f"template '{reference}' not found")

    def named(self, name: str) -> Template | None:
        return self._named.get(name)

    def remove(self, template_id: str) -> None:
        """Delete one; raises ``Refused``."""
        for name, template in self._named.items():
            if template_id in (name, template.id):
                del self._named[name]
                return
        raise Refused(404, f"template '{template_id}' not found")


def new_id() -> str:
    return secrets.token_hex(ID_BYTES)
