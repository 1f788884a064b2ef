"""One app's machines by Fly's Machines API: a call for each method, at the pace that Fly allows.

``https://api.machines.dev/v1``, JSON over HTTP/1.1 (``fly.io/docs/machines/api``, 2026-11). Calls
that may be made twice are, where their answer was lost: a machine is made by its name.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from outpost.errors import UserError
from outpost.transports.fly_faults import ApiFault, Trouble, fault_of
from outpost.transports.fly_rates import Rate, Rates, TooLong
from outpost.transports.fly_seen import Seen, read_machine
from outpost.wire.redact import Redactor

if TYPE_CHECKING:
    import httpx2

CONNECT_S = 10.0
CALL_S = 30.0
WAIT_MOST_S = 60
"""What ``wait`` takes at most ("This request will block for up to 60 seconds")."""
WAIT_MARGIN_S = 10.0
QUEUE_MOST_S = 300.0
"""How long a call may wait for its turn among our own."""
RATE_MOST_S = 30.0
"""How long a call is tried again that Fly puts off."""
AGAIN_S = (0.2, 0.5, 1.0)
"""The pauses after answers that were lost."""
REST_S = 1.0
BURST = 3
GET_TIMES, GET_BURST = 5, 10
"""Looking at one machine may be done more often than anything else."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """One request. ``asked`` is what it is for, in words that follow on ``Fly does not``.

    ``again``: it may be made twice.
    """

    action: str
    method: str
    path: str
    asked: str
    machine_id: str = ""
    body: Mapping[str, Any] | None = None
    query: Mapping[str, str] | None = None
    nonce: str = ""
    timeout_s: float = CALL_S
    again: bool = True

    @property
    def key(self) -> tuple[str, str]:
        """What Fly counts it by."""
        return self.action, self.machine_id


@dataclass(slots=True)
class _Tries:
    """What became of a call until now; one that Fly puts off is given up at ``deadline``."""

    deadline: float
    unanswered: int = 0
    refused: str = ""
    lost: bool = False


class FlyMachines:
    """The machines of one app. ``read_token`` may block; it is asked anew where Fly refuses one."""

    def __init__(
        self, api_url: str, app: str, read_token: Callable[[], str], *, per_s: float = 1.0
    ) -> None:
        self.app = app
        self._url = f"{api_url.rstrip('/')}/v1/apps/{app}"
        self._read_token = read_token
        self._token = ""
        self._redactor = Redactor()
        self._rates = Rates()
        self._rate = Rate(per_s=per_s, burst=BURST)
        self._get_rate = Rate(per_s=GET_TIMES * per_s, burst=GET_BURST)
        self._client: httpx2.AsyncClient | None = None
        self.told_at: datetime | None = None

    async def look_at_app(self) -> Mapping[str, Any]:
        """Return what Fly says of the app itself."""
        said = await self._call(Call(action="app", method="GET", path="", asked="show the app"))
        return said if isinstance(said, dict) else {}

    async def list(self, metadata: Mapping[str, str]) -> list[Seen]:
        """Return the machines that have these metadata; those of others may be among them."""
        began_at = asyncio.get_running_loop().time()
        query = {f"metadata.{key}": value for key, value in metadata.items()}
        said = await self._call(
            Call(action="list", method="GET", path="/machines", asked="list machines", query=query)
        )
        return [_read(it, began_at) for it in said or []]

    async def get(self, machine_id: str) -> Seen:
        """Return one machine."""
        began_at = asyncio.get_running_loop().time()
        return _read(await self._on(machine_id, "get", "GET", "", f"show {machine_id}"), began_at)

    async def create(
        self, name: str, region: str, config: Mapping[str, Any], *, launch: bool = True
    ) -> Seen:
        """Make a machine. ``TAKEN``: one of that name is there, maybe by this very call."""
        began_at = asyncio.get_running_loop().time()
        body: dict[str, Any] = {"name": name, "region": region, "config": config}
        if not launch:
            body["skip_launch"] = True
        asked = f"make a machine in {region}"
        call = Call(action="create", method="POST", path="/machines", asked=asked, body=body)
        return _read(await self._call(call), began_at)

    async def wait(self, machine_id: str, state: str, seconds: float) -> bool:
        """Wait for a state, at most so long (60 s at most); whether it has come."""
        timeout_s = max(1, min(round(seconds), WAIT_MOST_S))
        call = Call(
            action="wait",
            method="GET",
            path=f"/machines/{machine_id}/wait",
            asked=f"wait for {machine_id}",
            machine_id=machine_id,
            query={"state": state, "timeout": str(timeout_s)},
            timeout_s=timeout_s + WAIT_MARGIN_S,
            again=False,
        )
        try:
            await self._call(call)
        except ApiFault as exc:
            if exc.trouble in (Trouble.LATE, Trouble.STATE):
                return False
            raise
        return True

    async def start(self, machine_id: str, nonce: str = "") -> None:
        """Start a machine, or have it go on that was suspended."""
        await self._on(machine_id, "start", "POST", "/start", f"start {machine_id}", nonce=nonce)

    async def stop(self, machine_id: str, seconds: int) -> None:
        """Ask a machine's program to end (SIGTERM); it is killed after so many seconds."""
        body = {"signal": "SIGTERM", "timeout": f"{seconds}s"}
        await self._on(machine_id, "stop", "POST", "/stop", f"stop {machine_id}", body=body)

    async def suspend(self, machine_id: str, nonce: str = "") -> None:
        """Freeze a machine, its memory kept."""
        asked = f"suspend {machine_id}"
        await self._on(machine_id, "suspend", "POST", "/suspend", asked, nonce=nonce)

    async def delete(self, machine_id: str, nonce: str = "") -> None:
        """Destroy a machine, running or not; that it is gone is seen later."""
        query, asked = {"force": "true"}, f"destroy {machine_id}"
        await self._on(machine_id, "delete", "DELETE", "", asked, query=query, nonce=nonce)

    async def lease(self, machine_id: str, seconds: int) -> str:
        """Have a machine for ourselves, and return the nonce that proves it. ``HELD``: taken."""
        call = Call(
            action="lease",
            method="POST",
            path=f"/machines/{machine_id}/lease",
            asked=f"lease {machine_id}",
            machine_id=machine_id,
            body={"ttl": seconds, "description": "outpost claims it for a worker"},
            again=False,
        )
        said = await self._call(call)
        if not isinstance(said, dict):
            raise _senseless(call)
        # The documents show the lease itself; what comes is an envelope with the lease in it.
        nonce = (said.get("data") or said).get("nonce")
        if not nonce:
            raise _senseless(call)
        return str(nonce)

    async def release(self, machine_id: str, nonce: str) -> None:
        """Give a lease back."""
        asked = f"release {machine_id}"
        await self._on(machine_id, "release", "DELETE", "/lease", asked, nonce=nonce)

    async def mark(self, machine_id: str, metadata: Mapping[str, str], nonce: str = "") -> None:
        """Write some of a machine's metadata; an empty text takes one away."""
        body, asked = {"metadata": dict(metadata)}, f"mark {machine_id}"
        path = "/metadata"
        await self._on(machine_id, "metadata", "PATCH", path, asked, body=body, nonce=nonce)

    async def create_volume(self, name: str, region: str, size_gb: int) -> str:
        """Make a volume and return its id."""
        body = {"name": name, "region": region, "size_gb": size_gb, "encrypted": True}
        body["auto_backup_enabled"] = False
        asked = f"make a volume in {region}"
        call = Call(action="volumes", method="POST", path="/volumes", asked=asked, body=body)
        said = await self._call(call)
        if not isinstance(said, dict) or not said.get("id"):
            raise _senseless(call)
        return str(said["id"])

    async def volumes(self) -> Any:
        """Return what Fly says of the app's volumes, an object for each."""
        call = Call(action="volumes", method="GET", path="/volumes", asked="list volumes")
        return await self._call(call) or []

    async def delete_volume(self, volume_id: str) -> None:
        """Destroy a volume. ``STATE``: a machine still has it."""
        path = f"/volumes/{volume_id}"
        asked = f"destroy {volume_id}"
        await self._call(Call(action="volumes", method="DELETE", path=path, asked=asked))

    async def close(self) -> None:
        """Let go of all connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def _on(
        self,
        machine_id: str,
        action: str,
        method: str,
        rest: str,
        asked: str,
        **more: Any,
    ) -> Any:
        path = f"/machines/{machine_id}{rest}"
        return await self._call(
            Call(
                action=action, method=method, path=path, asked=asked, machine_id=machine_id, **more
            )
        )

    async def _call(self, call: Call) -> Any:
        """Make a call until it is answered; raises ``ApiFault``."""
        await self._turn(call)
        tries = _Tries(asyncio.get_running_loop().time() + RATE_MOST_S)
        while True:
            try:
                return await self._ask(call)
            except ApiFault as exc:
                if await self._worth_another(call, exc, tries):
                    await self._turn(call)
                    continue
                if tries.lost and exc.trouble in (*_UNANSWERED, Trouble.RATE):
                    exc.trouble = Trouble.LOST
                raise

    async def _worth_another(self, call: Call, exc: ApiFault, tries: _Tries) -> bool:
        """Whether to try once more, after the pause that this takes."""
        tries.lost = tries.lost or exc.trouble is Trouble.LOST
        if exc.trouble is Trouble.RATE:
            pause_s = REST_S if exc.retry_after_s is None else exc.retry_after_s
            self._rates.rest(call.key, self._rate_of(call), pause_s)
            return asyncio.get_running_loop().time() + pause_s < tries.deadline
        if exc.trouble is Trouble.REFUSED and self._token != tries.refused:
            # It may have been exchanged for another one since it was read.
            tries.refused, self._token = self._token, ""
            return await self._has_token() != tries.refused
        # Where nobody was there at all, nobody is a second later, as a rule.
        most = 1 if exc.trouble is Trouble.UNREACHED else len(AGAIN_S)
        if not call.again or exc.trouble not in _UNANSWERED or tries.unanswered >= most:
            return False
        await asyncio.sleep(AGAIN_S[tries.unanswered])
        tries.unanswered += 1
        return True

    def _rate_of(self, call: Call) -> Rate:
        return self._get_rate if call.action == "get" else self._rate

    async def _turn(self, call: Call) -> None:
        try:
            await self._rates.turn(call.key, self._rate_of(call), most_s=QUEUE_MOST_S)
        except TooLong as exc:
            what = f"too many calls wait to {call.asked}"
            raise ApiFault(what, Trouble.RATE, retry_after_s=exc.seconds) from exc

    async def _ask(self, call: Call) -> Any:
        import httpx2  # noqa: PLC0415 - heavy

        headers = {"authorization": f"Bearer {await self._has_token()}"}
        if call.nonce:
            headers["fly-machine-lease-nonce"] = call.nonce
        try:
            async with asyncio.timeout(call.timeout_s):
                answer = await self._pool().request(
                    call.method,
                    self._url + call.path,
                    params=call.query,
                    json=call.body,
                    headers=headers,
                    timeout=httpx2.Timeout(call.timeout_s, connect=CONNECT_S),
                )
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout) as exc:
            what = f"Fly's Machines API cannot be reached: {exc or type(exc).__name__}"
            raise ApiFault(what, Trouble.UNREACHED) from exc
        except (TimeoutError, httpx2.HTTPError) as exc:
            what = f"Fly does not say whether it would {call.asked}: {exc or 'no answer in time'}"
            raise ApiFault(what, _unanswered(call)) from exc
        except (httpx2.InvalidURL, UnicodeError) as exc:
            raise ApiFault(f"api_url cannot be used: {exc}", Trouble.INVALID) from exc
        return self._read(call, answer)

    def _read(self, call: Call, answer: httpx2.Response) -> Any:
        self._note_time(answer.headers.get("date", ""))
        if not 200 <= answer.status_code < 300:
            # Whoever answers may repeat what they were asked with.
            said = self._redactor.text(answer.content.decode("utf-8", "replace"))
            fault = fault_of(
                answer.status_code,
                said.encode(),
                asked=call.asked,
                retry_after=answer.headers.get("retry-after", ""),
                changes=call.method != "GET",
            )
            if fault.trouble is Trouble.ABSENT and call.action in ("app", "list", "create"):
                fault.trouble = Trouble.NO_APP
            raise fault
        if not answer.content.strip():
            return None
        try:
            return json.loads(answer.content)
        except (ValueError, RecursionError) as exc:
            raise _senseless(call) from exc

    def _note_time(self, text: str) -> None:
        """Take note of Fly's own time: ours may be another one."""
        try:
            told_at = parsedate_to_datetime(text)
        except (TypeError, ValueError):
            return
        if told_at.tzinfo is not None:
            self.told_at = told_at

    async def _has_token(self) -> str:
        if not self._token:
            try:
                self._token = await asyncio.to_thread(self._read_token)
            except UserError as exc:
                raise ApiFault(exc.message, Trouble.REFUSED, hint=exc.hint) from exc
            self._redactor = Redactor((self._token,))
        return self._token

    def _pool(self) -> httpx2.AsyncClient:
        import httpx2  # noqa: PLC0415 - heavy

        if self._client is None:
            try:
                self._client = httpx2.AsyncClient(headers={"user-agent": "outpost"})
            # Proxy addresses and certificate files from the environment are read here.
            except (ImportError, OSError, ValueError) as exc:
                what = f"no connection to Fly can be set up: {exc}"
                hint = "check the variables HTTPS_PROXY, ALL_PROXY and SSL_CERT_FILE"
                raise ApiFault(what, Trouble.UNREACHED, hint=hint) from exc
        return self._client


_UNANSWERED = (Trouble.UNREACHED, Trouble.LOST, Trouble.FAILED)


def _unanswered(call: Call) -> Trouble:
    return Trouble.FAILED if call.method == "GET" else Trouble.LOST


def _read(said: Any, seen_at: float) -> Seen:
    try:
        return read_machine(said, seen_at)
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        what = f"Fly tells of a machine in a way that makes no sense: {exc!r}"
        raise ApiFault(what, Trouble.FAILED) from exc


def _senseless(call: Call) -> ApiFault:
    what = f"Fly says nothing sensible when asked to {call.asked}"
    return ApiFault(what, _unanswered(call))
