"""One tool call of the agent: what it told of it so far, and what that is called here.

The protocol sends a call in pieces: a start, then updates that replace some of its fields, and a
request for permission that may know more. Names of tools are those of
``outpost.runner.permissions``, by the kind of the call.
"""

from __future__ import annotations

import re

from outpost.runner.agents.reading import cut, object_, one_line, shorten
from outpost.runner.agents.reading import text as text_of
from outpost.runner.permissions import COMMAND, file_subject

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from acp.schema import ToolCallProgress, ToolCallStart, ToolCallUpdate

RESULT_CHARS = 2048
TOOLS = {
    "execute": COMMAND,
    "edit": "Edit",
    "delete": "Edit",
    "move": "Edit",
    "read": "Read",
    "search": "Read",
    "fetch": "WebFetch",
}
ENDED = ("completed", "failed")
_PATH_KEYS = ("file_path", "notebook_path", "path", "abs_path")
_URL = re.compile(r"https?://\S+")


class Call:
    """A call, put together. ``told`` and ``ended``: whether the log has its start and its end.

    ``overtaken``: an update came that may have been sent ahead of the one that describes the call.
    """

    def __init__(self, call_id: str, workspace: str) -> None:
        self.fields: dict[str, Any] = {"toolCallId": call_id}
        self.told = False
        self.ended = False
        self.overtaken = False
        self._workspace = workspace

    def merge(self, update: ToolCallStart | ToolCallProgress | ToolCallUpdate) -> None:
        """Take what an update says; what it leaves out stays as it was."""
        told = update.model_dump(mode="json", by_alias=True, exclude_none=True)
        told.pop("sessionUpdate", None)
        self.fields.update(told)

    @property
    def status(self) -> str:
        return text_of(self.fields.get("status")) or "pending"

    @property
    def described(self) -> bool:
        """Whether it says more by now than that there will be a call."""
        return bool(self.fields.get("rawInput")) or self.status != "pending"

    @property
    def tool(self) -> str:
        """The tool's name in permission patterns; for kinds that say nothing, the call's title."""
        kind = text_of(self.fields.get("kind"))
        if kind == "fetch" and not self._url() and "query" in self._input:
            return "WebSearch"
        return TOOLS.get(kind) or self._title or "other"

    @property
    def subjects(self) -> list[str]:
        """What the tool is used on, at least one; an empty string where the call does not say."""
        if self.tool == COMMAND:
            return [self.command or _bare(self._title)]
        if self.tool in ("Edit", "Read"):
            return [file_subject(path, self._workspace) for path in self._paths()] or [""]
        if self.tool == "WebFetch":
            return [self._url()]
        return [text_of(self._input.get("query"))]

    @property
    def command(self) -> str:
        """The command line, where the call tells it itself, beside a title for humans."""
        line = self._input.get("command")
        if isinstance(line, list):
            return " ".join(map(str, line))
        return text_of(line)

    @property
    def text(self) -> str:
        """The call in one line, as ``Bash: ls`` or ``Edit: ./src/words.py``."""
        subject = ", ".join(filter(None, self.subjects))
        if self.tool in (*TOOLS.values(), "WebSearch"):
            return one_line(f"{self.tool}: {subject or self._title}")
        return one_line(self._title or "other")

    @property
    def result(self) -> str:
        """What came out of the call, shortened."""
        output = self.fields.get("rawOutput")
        said = output if isinstance(output, str) else ""
        if not said:
            blocks = (_block_text(block) for block in self._content())
            said = "\n".join(filter(None, blocks))
        return shorten(said or self.status, RESULT_CHARS)

    @property
    def raw(self) -> Any:
        """All that is known of the call, cut where it is very large."""
        return cut(self.fields)

    @property
    def _title(self) -> str:
        return text_of(self.fields.get("title"))

    @property
    def _input(self) -> dict[str, Any]:
        return object_(self.fields.get("rawInput"))

    def _content(self) -> list[dict[str, Any]]:
        return [object_(block) for block in self.fields.get("content") or []]

    def _paths(self) -> list[str]:
        """Return the files of the call: its locations and diffs, or else what its input names."""
        told = [text_of(place.get("path")) for place in self.fields.get("locations") or []]
        told += [text_of(block.get("path")) for block in self._content()]
        named = [text_of(self._input.get(key)) for key in _PATH_KEYS]
        paths = [path for path in told if path] or [path for path in named if path]
        return list(dict.fromkeys(paths))

    def _url(self) -> str:
        found = _URL.search(self._title)
        return text_of(self._input.get("url")) or (found[0] if found else "")


def _bare(title: str) -> str:
    """Return a command without the marks some agents put around it in titles."""
    return title.strip().removeprefix("`").removesuffix("`")


def _block_text(block: dict[str, Any]) -> str:
    content = object_(block.get("content"))
    if block.get("type") == "diff":
        return f"changed {text_of(block.get('path'))}"
    return text_of(content.get("text")) or (f"[{content['type']}]" if "type" in content else "")
