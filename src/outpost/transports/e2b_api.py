"""E2B's SDK at the one place that calls its API: sandboxes in our words, its errors as ours.

What the SDK (2.63) leaves to its caller is dealt with here: an answer that is no JSON surfaces as
``json.JSONDecodeError``, an empty one as a bare ``Exception``, a 503 as ``ServiceBusyException``
and a bad key as ``AuthenticationException``, which are no ``SandboxException``; a 429 is tried
three times again by itself, for as long as the request's own deadline allows.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from outpost.errors import (
    NoCapacity,
    NotDispatched,
    OutpostError,
    OutpostFault,
    RateLimited,
    Rejected,
)
from outpost.wire.redact import Redactor

if TYPE_CHECKING:
    from e2b import AsyncSandbox, SandboxInfo
    from e2b.connection_config import ApiParams
    from e2b.template.main import TemplateClass

REQUEST_S = 30.0
CHANGE_S = 60.0  # a start may wait for a machine, a pause writes the memory: 4 s a GiB
RETRIES = 2
SHOWN = 300
DASHBOARD = "https://e2b.dev/dashboard?tab=keys"
_FULL = ("concurrent", "capacity", "maximum number")


class Unclear(OutpostFault):
    """Whether it was done, nobody knows."""


class BadKey(Rejected):
    """E2B does not take the API key (any more)."""


class Gone(OutpostFault):
    """There is no such sandbox, or template, any more."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Access:
    """How E2B is reached; an address that is ``None`` is E2B's own."""

    api_key: str = field(repr=False)
    api_url: str | None = None
    sandbox_url: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Sandbox:
    """One as E2B's list has it; a paused one has no end."""

    id: str
    metadata: Mapping[str, str]
    paused: bool
    started_at: datetime
    end_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Build:
    """A template to be built, by the name that it is known by."""

    name: str
    cpus: int
    memory_mib: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Wish:
    """A sandbox to be made. Idempotent by ``key``; it ends (``lifecycle``) after ``timeout_s``."""

    key: str
    template: str
    timeout_s: float
    lifecycle: Literal["pause", "kill"]
    metadata: Mapping[str, str]
    allow_internet: bool = True
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()


class E2bApi:
    """The API as one outpost (``name``) uses it.

    ``access`` is asked for with each call; ``spurned`` is told that its key is not taken.
    """

    def __init__(
        self, name: str, access: Callable[[], Awaitable[Access]], spurned: Callable[[], None]
    ) -> None:
        self._name = name
        self._access = access
        self._spurned = spurned
        self._redactor = Redactor()

    async def create(self, wish: Wish) -> AsyncSandbox:
        """Make a sandbox, or get the one made for the same key.

        Raises ``NotDispatched`` and its kin where there is none, ``Rejected``, and ``Unclear``.
        """
        with self.in_our_words():
            from e2b import AsyncSandbox  # noqa: PLC0415 - takes 0.4 s to load

            network = {"allow_out": list(wish.allow), "deny_out": list(wish.deny)}
            return await AsyncSandbox.create(
                wish.template,
                timeout=round(wish.timeout_s),
                metadata=dict(wish.metadata),
                allow_internet_access=None if wish.allow_internet else False,
                network={name: hosts for name, hosts in network.items() if hosts} or None,  # type: ignore[arg-type]
                # Traffic never wakes one: that is for us to say, as it costs.
                lifecycle={"on_timeout": "pause", "auto_resume": False}
                if wish.lifecycle == "pause"
                else {"on_timeout": "kill"},
                idempotency_key=wish.key,
                **await self._params(CHANGE_S),
            )

    async def connect(self, sandbox_id: str, timeout_s: float) -> AsyncSandbox:
        """Have a sandbox run, for ``timeout_s`` from now on at least. Raises ``OutpostFault``."""
        with self.in_our_words():
            from e2b import AsyncSandbox  # noqa: PLC0415 - as above

            return await AsyncSandbox.connect(
                sandbox_id, timeout=round(timeout_s), **await self._params(CHANGE_S)
            )

    async def look(self, sandbox_id: str) -> Sandbox | None:
        """Return a sandbox as it is; ``None``: there is none. Raises ``OutpostFault``."""
        try:
            with self.in_our_words():
                from e2b import AsyncSandbox  # noqa: PLC0415 - as above

                return _seen(await AsyncSandbox.get_info(sandbox_id, **await self._params()))
        except Gone:
            return None

    async def list(self, metadata: Mapping[str, str]) -> list[Sandbox]:
        """Return all with these metadata, the oldest first; may lag behind what was just done.

        Raises ``OutpostFault``.
        """
        with self.in_our_words():
            from e2b import AsyncSandbox, SandboxQuery  # noqa: PLC0415 - as above

            pages = AsyncSandbox.list(
                SandboxQuery(metadata=dict(metadata)), limit=100, **await self._params()
            )
            found = []
            while pages.has_next:
                found += [_seen(it) for it in await pages.next_items()]
        return sorted(found, key=lambda it: (it.started_at, it.id))

    async def renew(self, sandbox_id: str, timeout_s: float) -> None:
        """Have a running sandbox end in ``timeout_s`` from now. Raises ``OutpostFault``."""
        with self.in_our_words():
            from e2b import AsyncSandbox  # noqa: PLC0415 - as above

            await AsyncSandbox.set_timeout(sandbox_id, round(timeout_s), **await self._params())

    async def pause(self, sandbox_id: str) -> None:
        """Pause a sandbox, with its memory; idempotent. Raises ``OutpostFault``."""
        with self.in_our_words():
            from e2b import AsyncSandbox  # noqa: PLC0415 - as above

            await AsyncSandbox.pause(sandbox_id, **await self._params(CHANGE_S))

    async def kill(self, sandbox_id: str) -> None:
        """Remove a sandbox with all that is in it; idempotent. Raises ``OutpostFault``."""
        with self.in_our_words():
            from e2b import AsyncSandbox  # noqa: PLC0415 - as above

            await AsyncSandbox.kill(sandbox_id, **await self._params())

    async def has_template(self, name: str) -> bool:
        """Whether there is a template of that name that we may use. Raises ``OutpostFault``."""
        with self.in_our_words():
            from e2b import AsyncTemplate  # noqa: PLC0415 - as above

            return await AsyncTemplate.exists(name, **await self._params())

    async def build(
        self, template: TemplateClass, asked: Build, tell: Callable[[str], None]
    ) -> None:
        """Have a template built, and wait until it is. Raises ``OutpostFault``."""
        with self.in_our_words():
            from e2b import AsyncTemplate  # noqa: PLC0415 - as above

            await AsyncTemplate.build(
                template,
                asked.name,
                cpu_count=asked.cpus,
                memory_mb=asked.memory_mib,
                on_build_logs=lambda entry: tell(entry.message),
                **await self._params(),
            )

    async def _params(self, request_s: float = REQUEST_S) -> ApiParams:
        access = await self._access()
        self._redactor = Redactor((access.api_key,))
        params: ApiParams = {
            "api_key": access.api_key,
            "request_timeout": request_s,
            "retries": RETRIES,
            "debug": False,
        }
        if access.api_url:
            params["api_url"] = access.api_url
        if access.sandbox_url:
            params["sandbox_url"] = access.sandbox_url
        return params

    @contextlib.contextmanager
    def in_our_words(self) -> Iterator[None]:
        """Turn what the SDK raises into an ``OutpostFault``, which never quotes the key."""
        try:
            with in_our_words(self._name, self._redacted):
                yield
        except BadKey:
            self._spurned()
            raise

    def _redacted(self, text: str) -> str:
        """Return a text without the key, whichever was asked for last."""
        return self._redactor.text(text)


@contextlib.contextmanager
def in_our_words(name: str, redacted: Callable[[str], str] = str) -> Iterator[None]:
    """Turn whatever the SDK raises into an ``OutpostFault`` of the outpost ``name``.

    ``redacted`` takes secrets out of what the SDK says.

    Where the SDK swallowed a cancellation (it waits by ``asyncio.wait_for``, which does so before
    Python 3.12 if the answer comes at the same moment), that goes on from here.
    """
    load(name)
    task = asyncio.current_task()
    cancelled = task.cancelling() if task else 0
    try:
        yield
    except OutpostError:
        raise
    except Exception as exc:
        if task and task.cancelling() > cancelled:
            raise asyncio.CancelledError from exc
        # The SDK raises bare ones, too; each of them is turned into one of ours here.
        raise _fault(name, exc, redacted) from exc
    if task and task.cancelling() > cancelled:
        raise asyncio.CancelledError


def load(name: str) -> None:
    """Load the SDK, which is an extra; raises ``Rejected`` where it is not installed."""
    try:
        import e2b  # noqa: F401, PLC0415 - as above
    except ImportError as exc:
        absent = isinstance(exc, ModuleNotFoundError)
        what = "is not installed" if absent else f"cannot be loaded ({exc})"
        # The command stands in the message, as tables show no hints.
        raise Rejected(
            f"E2B's SDK {what}: pip install '.[e2b]' in the checkout of outpost",
            outpost=name,
            hint="after that, have it tried again: outpost doctor --fix",
        ) from exc


def _fault(name: str, exc: Exception, redacted: Callable[[str], str]) -> OutpostFault:
    """Return what an error of the SDK means."""
    import httpx  # noqa: PLC0415 - the SDK has loaded it
    from e2b import exceptions as sdk  # noqa: PLC0415 - as above

    said = redacted(" ".join(str(exc).split()))[:SHOWN] or type(exc).__name__
    status = getattr(exc, "status_code", None)
    match exc:
        case sdk.AuthenticationException():
            hint = f"api_key of the outpost leads to the key; yours are at {DASHBOARD}"
            return BadKey(f"E2B does not take the API key: {said}", outpost=name, hint=hint)
        case sdk.NotFoundException() | sdk.SandboxNotRunningException():
            return Gone(f"E2B knows nothing of it: {said}", outpost=name)
        case sdk.BuildException():
            return OutpostFault(f"E2B cannot build the template: {said}", outpost=name)
        case sdk.RateLimitException() if any(word in said.lower() for word in _FULL):
            hint = "fewer at once: max_workers of the outpost; more: E2B's plan"
            return NoCapacity(f"no sandbox is free on E2B: {said}", outpost=name, hint=hint)
        case sdk.RateLimitException():
            return RateLimited(f"E2B asks for patience: {said}", outpost=name)
        case sdk.ServiceBusyException():
            return NoCapacity(f"E2B is too busy: {said}", outpost=name)
        case httpx.ConnectError() | httpx.ConnectTimeout():
            hint = "check the connection, the proxy settings and api_url of this outpost"
            return NotDispatched(f"E2B is out of reach: {said}", outpost=name, hint=hint)
        case sdk.SandboxException() if status is not None and 400 <= status < 500:
            gone = status == 404
            return (Gone if gone else Rejected)(f"E2B refuses: {said}", outpost=name)
        case sdk.InvalidArgumentException():
            return Rejected(f"E2B's SDK refuses: {said}", outpost=name)
        case sdk.SandboxException() | httpx.HTTPError():
            return Unclear(f"E2B failed: {said}", outpost=name)
    return Unclear(f"E2B gave no sensible answer: {type(exc).__name__}: {said}", outpost=name)


def _seen(info: SandboxInfo) -> Sandbox:
    return Sandbox(
        id=info.sandbox_id,
        metadata=info.metadata,
        paused=str(getattr(info.state, "value", info.state)) == "paused",
        started_at=info.started_at,
        end_at=info.end_at,
    )
