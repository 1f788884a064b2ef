"""The life of one attempt: prepare, run the agent, save the work, report the result."""

from __future__ import annotations

import contextlib
import os
import signal
import time

from outpost.runner import guard, processes, screen
from outpost.runner.agents import AgentUnavailable, Ending, load
from outpost.runner.beginning import Beginning
from outpost.runner.cache import Cache
from outpost.runner.checkpoints import Checkpoints
from outpost.runner.disk import check_room
from outpost.runner.git import Git, GitError
from outpost.runner.lease import NO_TRANSACTIONS, Lease, Superseded
from outpost.runner.log import EventLog
from outpost.runner.loop import Interrupted, Loop
from outpost.runner.mailbox import Mailbox
from outpost.runner.pane import Pane, release
from outpost.runner.place import KILLING, Place
from outpost.runner.reserve import Reserve
from outpost.runner.settings import Settings
from outpost.runner.spending import Spending
from outpost.runner.stopping import Stopping, asked_before_death
from outpost.runner.transcript import gone_on_in
from outpost.runner.working import Working
from outpost.runner.workspace import Saved, Workspace
from outpost.wire.redact import redactor_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from outpost.runner.agents import Agent
    from outpost.wire.orders import Environment, Message, WorkOrder

HEARTBEAT_S = 15.0
RESCUE_SAVE_S = 120.0
SAVED_AFTERWARDS = "its runner was killed; the work was saved afterwards"
RESERVE_BYTES = 1 << 20  # for committing on a full disk
TITLE_CHARS = 200
SIGNAL_REASONS = {
    signal.SIGHUP: "hung up",
    signal.SIGINT: "interrupted",
    signal.SIGTERM: "terminated",
}


class Work:
    """One attempt, from its order to its result. Everything it learns goes into the log."""

    def __init__(self, place: Place, log: EventLog, environment: Environment) -> None:
        self.place = place
        self.log = log
        self.order: WorkOrder = place.order()
        self.environment = environment
        self.redactor = log.redactor = redactor_of(self.order, environment)
        self.interactive = bool(self.order.get("interactive"))
        self.loop = Loop(self._on_signal)
        self.git = Git(self.loop, self._git_environment(), self.order["repo_url"])
        self.cache = Cache(place.cache, self.git, self.loop)
        self.workspace = Workspace(
            place.tree, self.order["branch"], self.cache, self.git, place.path("base")
        )
        self.lease = self.workspace.delivery.lease = self._lease()
        self.checkpoints = Checkpoints(place, self.order, self.workspace, self.git, log)
        self.stopping = Stopping(
            self.loop, self.order["worker_id"], self.order["limits"]["grace_s"]
        )
        self.spending = Spending(self.order, self.stopping, self._note)
        self.settings = Settings(self.workspace.git, place.tree, place.path("settings"))
        self.reserve = Reserve(place.path("reserve"), RESERVE_BYTES)
        self._base = ""
        self.mailbox = Mailbox(place)
        self.working: Working | None = None
        self._heard_at = time.monotonic()
        self._seq_heard = 0
        self.pane = Pane("", None)
        self.loop.tick = self._tick
        self.loop.after_output = self._after_output

    def run(self) -> None:
        """Do the whole attempt; ends with a result in the log, whatever happens."""
        watch = guard.post(self.rescue)
        view = None if self.interactive else self.order.get("view")
        self.pane = Pane(self.place.path("pane"), view)
        self.log.show = self.pane.show
        self.log.write("status", state="starting", pid=os.getpid())
        exit_code: int | None = None
        evicted = False
        try:
            self.reserve.take()
            self.place.note_pids("runner.pid", watch.pid, os.getpid())
            ending, exit_code = self._screen() if self.interactive else self._headless()
        except Superseded as exc:
            ending = Ending("stopped", str(exc))
        except (GitError, AgentUnavailable, OSError, ValueError) as exc:
            ending = Ending("failed", str(exc))
        except Interrupted:
            ending = Ending("stopped")
        if self.stopping.reason:
            ending = Ending(self.stopping.outcome, self.stopping.reason, ending.summary)
            evicted = self.stopping.evicted
        self.finish(ending, exit_code, evicted=evicted)
        watch.dismiss()

    def rescue(self) -> None:
        """Finish in the place of a runner that died: same steps, on the same log."""
        self.log = EventLog(self.place.path("events.jsonl"))
        self.log.redactor = self.redactor
        if self.log.finished:
            return
        self.loop = Loop(lambda _number: None)
        self.stopping.loop = self.git.loop = self.loop
        self.stopping.give_up_after(RESCUE_SAVE_S)
        self.loop.tick = self._tick_in_rescue
        if ending := asked_before_death(self.place, self.mailbox):
            self.finish(ending, None)
        else:
            reason = SAVED_AFTERWARDS if self.log.last else "its runner never started"
            self.finish(Ending("failed", reason), None, rescued=True)

    def finish(
        self,
        ending: Ending,
        exit_code: int | None,
        *,
        rescued: bool = False,
        evicted: bool = False,
    ) -> None:
        """End what still runs, save the work, write the result; the lock is the caller's.

        ``rescued``: the runner has not come to its own end, and nobody had asked it to.
        ``evicted``: only its place has come to an end.
        """
        self.stopping.saving = True
        self.loop.interrupted = False
        if self.working:
            self.working.conversation.close()
        screen.take_back(self.place)
        self.checkpoints.end()
        survivors = processes.kill_all(self.order["worker_id"], self.place.agent_pid())
        if survivors:
            self._note(f"could not kill {survivors}")
        # What it has no room for would take the room that is freed for the work.
        self.log.leave_out_unwritten()
        self.reserve.free()
        saved = Saved("nothing", "", pushed=False)
        if self.workspace.exists:
            self.log.write("status", state="pushing")
            saved = self._save(ending)
            self._withdraw_checkpoint(saved)
        self._report(ending, saved, exit_code, {"rescued": rescued, "evicted": evicted})
        if saved.disposable and (ending.outcome == "done" or not self.order["keep_workspace"]):
            self.workspace.remove()
        release(self.place.path("pane"))

    def _headless(self) -> tuple[Ending, int | None]:
        order = gone_on_in(self.place, self.order, self.environment)
        if order is self.order and "transcript" in order:
            self._note("the earlier conversation cannot be gone on with here")
        self.working = Working(self.place, order, self.log, self.loop, self.stopping, self.spending)
        self._prepare()
        return self.working.run(self._agent_environment, self._put_settings_on)

    def _screen(self) -> tuple[Ending, None]:
        self.spending.cannot_watch("an agent at its own screen does not tell what it uses")
        self._prepare()
        # Where the agent may read without asking, and where nothing is committed from.
        task_file = os.path.join(self.place.tree, ".git", "outpost-task.md")
        with open(task_file, "w") as file:
            file.write(self.order["prompt"])
        agent = load(self.order["agent"]["name"])(self.order, self.place.directory, task_file)
        self.log.write("status", state="working", agent=self.order["agent"]["name"])
        view = self.order.get("view")
        if view is None:
            raise AgentUnavailable("there is no terminal session here to show its screen in")
        environment = {"TERM": "screen-256color", **self._agent_environment(agent)}
        ending, said = screen.run(self.place, agent, environment, view, self.stopping)
        for line in said.splitlines():
            self.log.add("log", {"stream": "stderr", "text": line})
        return ending, None

    def _save(self, ending: Ending) -> Saved:
        try:
            self.settings.take_off()
        except (GitError, OSError) as exc:
            self._note(f"cannot put the branch's agent settings back: {exc}")
        return self.workspace.save(self._commit_message(ending), self._bundle_path())

    def _withdraw_checkpoint(self, saved: Saved) -> None:
        """Take the work in progress off the remote once all of it is on the branch."""
        if saved.problem:
            return
        try:
            self.checkpoints.withdraw()
        except (GitError, OSError) as exc:
            self._note(f"{self.checkpoints.ref} stays on the remote: {exc}")

    def _prepare(self) -> None:
        check_room(self.place.root, self.order["limits"].get("min_free_mib", 0))
        self.log.write("status", state="preparing", reason="fetching the repository")
        beginning = Beginning(self.place, self.order, self.cache, self.workspace, self.loop)
        base = beginning.fetch_base()
        if self.lease and not self.lease.lazy:
            self.lease.take()
            if not self.lease.atomic:
                self._note(NO_TRANSACTIONS)
        beginning.make(base)
        for warning in self.workspace.warnings:
            self._note(warning)
        self._base = base.commit
        self.checkpoints.begin(beginning.start, beginning.left_in(self.checkpoints.ref))
        if beginning.follows:
            self._put_settings_on()

    def _put_settings_on(self) -> None:
        """Let the base's agent settings hold, before a run that follows on somebody's work."""
        if not self.order.get("branch_settings"):
            names = self.settings.put_on(self._base)
            if names:
                self._note(f"agent settings are the base's, not the branch's: {', '.join(names)}")

    def _after_output(self) -> None:
        if self.working:
            self.working.after_output()
        self.log.flush()
        self.pane.greet()

    def _note(self, text: str) -> None:
        self.log.write("log", stream="runner", text=text)

    def _tick(self) -> None:
        now = time.monotonic()
        if self.pane.look():
            self.stopping.ask("its tmux session was closed")
        self._read_mailbox()
        self.spending.tick()
        if not self.stopping.saving:
            self.checkpoints.tick(self.stopping)
            if self.working:
                self.working.tick()
        self.stopping.tick()
        self.stopping.note(self.place)
        self._beat(now)

    def _tick_in_rescue(self) -> None:
        self.stopping.tick()
        self._beat(time.monotonic())

    def _beat(self, now: float) -> None:
        """Say that somebody is there, where nothing else was said for a while."""
        if self.log.seq != self._seq_heard:
            self._seq_heard = self.log.seq
            self._heard_at = now
        elif now - self._heard_at >= HEARTBEAT_S:
            self.log.add("heartbeat", {})
        self.log.flush()

    def _on_signal(self, number: int) -> None:
        self.stopping.ask(SIGNAL_REASONS[signal.Signals(number)])
        if number == signal.SIGTERM:
            self.checkpoints.hurry()

    def _read_mailbox(self) -> None:
        for message in self.mailbox.read():
            if isinstance(message, str):
                self._note(message)
            elif message["type"] == "stop":
                self.stopping.ask_as_told(message)
            elif self.working:
                self.working.receive(message)
            else:
                self._say_nobody_listens(message)

    def _say_nobody_listens(self, message: Message) -> None:
        why = "work with it in its terminal: outpost attach" if self.interactive else "too late"
        told = {"message_id": message.get("message_id", ""), "text": message.get("text", "")}
        self.log.write("message", **told, delivered="never", reason=why)

    def _identity(self) -> dict[str, str]:
        author = self.order.get("author") or {}
        name = author.get("name") or "Outpost"
        email = author.get("email") or "outpost@localhost"
        return {
            "GIT_AUTHOR_NAME": name,
            "GIT_AUTHOR_EMAIL": email,
            "GIT_COMMITTER_NAME": name,
            "GIT_COMMITTER_EMAIL": email,
        }

    def _lease(self) -> Lease | None:
        fence = self.order.get("fence")
        if fence is None:
            return None
        folder = self.place.path("lease.git")
        return Lease(self.git, folder, self.order, fence)

    def _git_environment(self) -> dict[str, str]:
        mark = {processes.MARK: self.order["worker_id"]}
        return {**self.environment["git"], **self._identity(), **mark}

    def _agent_environment(self, agent: Agent) -> dict[str, str]:
        agent.given = self.environment["agent"]
        return {
            "PATH": os.defpath,
            **self.environment["agent"],
            **self._identity(),
            **agent.environment(),
            processes.MARK: self.order["worker_id"],
        }

    def _commit_message(self, ending: Ending) -> str:
        title = " ".join(self.order["title"].split())[:TITLE_CHARS]
        title = title if ending.outcome == "done" else f"WIP: {title}"
        trailers = f"Issue: {self.order['issue_id']}\nOutpost-Worker: {self.order['worker_id']}"
        return f"{title}\n\n{trailers}"

    def _bundle_path(self) -> str:
        return self.place.path("work.bundle")

    def _report(
        self, ending: Ending, saved: Saved, exit_code: int | None, cut: dict[str, bool]
    ) -> None:
        outcome, reason = ending.outcome, ending.reason
        if saved.problem:
            outcome = "failed" if outcome == "done" else outcome
            if saved.superseded:
                outcome, reason = "stopped", saved.problem
            else:
                reason = "; ".join(filter(None, (reason, f"not pushed: {saved.problem}")))
        elif saved.note and outcome == "done":
            reason = reason or f"its workspace stays, it holds {saved.note}"
        elif saved.how == "nothing" and outcome == "done":
            reason = reason or "the agent changed nothing"
        elif saved.pushed and not saved.commit and outcome == "done":
            reason = reason or f"the agent left its commits on other branches: see {saved.where}"
        self.log.write(
            "result",
            outcome=outcome,
            reason=reason,
            branch=self.order["branch"] if saved.pushed and saved.commit else None,
            commit=saved.commit,
            pr_url=None,
            summary=ending.summary,
            exit_code=exit_code,
            kept={"how": saved.how, "where": saved.where},
            **cut,
        )
        self.log.sync()


def run(place: Place, environment: Environment) -> None:
    """Run the attempt ordered at ``place``, whose lock the caller holds, unless it has ended."""
    log = EventLog(place.path("events.jsonl"))
    if not log.finished:
        Work(place, log, environment).run()


def terminate(place: Place) -> None:
    """Tell a living worker to stop, where no message can be written to it."""
    for pid in place.pids("runner.pid")[1:]:
        os.kill(pid, signal.SIGTERM)


def kill(place: Place) -> None:
    """Kill a worker and all it started, the understudy first; saves nothing.

    Under the worker's lock and to the end, even if whoever asked for it is gone by then: a worker
    must not look dead while its agent lives.
    """
    pid = os.fork()
    if not pid:
        status = 1
        try:
            os.setsid()
            _kill(place)
            status = 0
        finally:
            os._exit(status)
    if os.waitpid(pid, 0)[1]:
        raise OSError(f"could not kill worker {place.worker_id}")


def _kill(place: Place) -> None:
    # There may be no room for it, or no worker.
    with contextlib.suppress(OSError):
        place.take_lock(KILLING)
    processes.kill_exactly(place.pids("runner.pid"))
    with contextlib.suppress(FileNotFoundError):
        place.take_lock()
    processes.kill_exactly(place.pids("checkpoint.pid"))
    processes.kill_all(place.worker_id, place.agent_pid())
    # Whoever has only just begun to show it waits for somebody to write.
    release(place.path("pane"))


def recover(place: Place, environment: Environment) -> None:
    """Finish for a runner and a guard that both died; does nothing to a worker cared for."""
    if not os.path.isdir(place.directory):
        processes.kill_all(place.worker_id, None)
        return
    if not place.take_lock():
        return
    log = EventLog(place.path("events.jsonl"))
    if not log.finished:
        Work(place, log, environment).rescue()
    place.drop_lock()
