"""The crash matrix: one turn, killed at every place that it passes, gone on with by a new host, and judged.

The golden turn says where a turn can be killed and how it should end. For each place there is a fresh database, a
victim, and a survivor. What is judged is what design law 2 promises: nothing recorded is lost or done again, and what
nobody can know is said.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio

from lash_framework.inputs import normalized
from lash_framework.recovery import RecoveredTurn
from lash_framework.testing.crash_points import CrashPoint, Started, Watch
from lash_framework.testing.crash_seams import watch_host
from lash_framework.testing.crash_verdicts import Blur, Ending, judge
from lash_hookspecs.errors import LashError, TurnSuspended
from lash_hookspecs.sessions import AssembledTurn, TurnInput
from lash_hookspecs.stores import OperationId
from lash_hookspecs.values import frozen

if TYPE_CHECKING:
    from lash_framework.lash import Lash
    from lash_framework.session import Session

__all__ = ["Crash", "CrashReport", "Subject", "crash_at_every_effect"]

OpenHost = Callable[[str], AbstractAsyncContextManager["Lash"]]


@frozen(kw_only=True)
class Crash:
    """What became of one crash. `reached` is False if the turn came to its end without passing that place.

    `runs` counts by label how often each effect was executed, before the crash and after it; `unknown` are the calls
    that the turn ended without knowing of.
    """

    point: CrashPoint
    reached: bool
    ending: Ending
    started: tuple[Started, ...]

    @property
    def turn(self) -> AssembledTurn:
        """The turn as it was committed in the end."""
        return self.ending.turn

    @property
    def runs(self) -> Mapping[str, int]:
        """How often each effect was executed, by label."""
        return Counter(each.label for each in (*self.started, *self.ending.started))

    @property
    def unknown(self) -> tuple[str, ...]:
        """Labels of the effects of which nobody knows whether they happened."""
        return tuple(row.label for row in self.ending.left_unknown)


@frozen(kw_only=True)
class CrashReport:
    """The golden turn, and what became of each crash, in the order of the golden trace."""

    golden: Ending
    trace: tuple[CrashPoint, ...]
    crashes: tuple[Crash, ...]

    @property
    def unreached(self) -> tuple[CrashPoint, ...]:
        """Places that only the golden turn passed: its tools didn't run in the same order again."""
        return tuple(each.point for each in self.crashes if not each.reached)

    def __str__(self) -> str:
        return "\n".join(f"{each.point}: {_told(each)}" for each in self.crashes)


def _told(crash: Crash) -> str:
    """What was otherwise than in the golden turn."""
    found = [f"{label} ran {count} times" for label, count in crash.runs.items() if count != 1]
    found += [f"{label} is unknown" for label in crash.unknown]
    return ", ".join(found) or "as if nothing had happened"


@frozen(kw_only=True)
class Subject:
    """A turn to be killed: how to open a host on a database, and what is asked on which session."""

    open_host: OpenHost
    prompt: TurnInput | str
    session_id: str
    turn_id: str
    mode: str | None = None

    async def live(self, url: str, watch: Watch) -> None:
        """Run the turn until its commit, or until the watch ends its world."""
        try:
            with anyio.CancelScope() as watch.scope:
                async with self.open_host(url) as lash:
                    watch_host(lash, watch, mortal=watch.target is not None and watch.kill is None)
                    session = await self._session(lash)
                    watch.active = True
                    while not await self._ran(lash, session):
                        pass
        except Exception:
            if not watch.dead:  # whatever a killed process still says, nobody hears
                raise

    async def survive(self, url: str, *, force: bool = False) -> Ending:
        """What a process left, and how its turn ends with a new host: recovered, then asked for once more.

        `force`: also if it is blocked.
        """
        watch = Watch()
        async with self.open_host(url) as lash:
            store: Any = lash.store
            await _bury(lash, self.session_id)
            rows = await store.load_journal(self.session_id, self.turn_id)
            was_committed = await store.load_receipt(self.session_id, self._operation) is not None
            was_accepted = bool(await store.list_inbox(self.session_id))
            watch_host(lash, watch)
            session = await self._session(lash)
            recovered = [*await self._recovered(lash, session, force)]
            while not await self._ran(lash, session):
                pass
            turn = await session.run(self.prompt, turn_id=self.turn_id)
            recovered += await self._recovered(lash, session, force)  # what the turn has left to do in the inbox
            loaded = await store.load_session(self.session_id)
            return Ending(
                turn=turn,
                rows=tuple(rows),
                was_accepted=was_accepted,
                was_committed=was_committed,
                started=tuple(watch.started),
                recovered=tuple(recovered),
                messages=tuple(await session.messages()),
                components={name: each.ref for name, each in loaded.components.items()},
                session_usage=(await session.usage()).total,
                receipts=tuple(each.operation for each in await store.list_receipts(self.session_id)),
                inbox=tuple(await store.list_inbox(self.session_id)),
            )

    @property
    def _operation(self) -> OperationId:
        return OperationId("turn", self.turn_id)

    async def _session(self, lash: Lash) -> Session:
        return await lash.session(self.session_id, mode=self.mode, recover=False)

    async def _ran(self, lash: Lash, session: Session) -> bool:
        """Run the turn to its end, or until it waits for somebody, who answers."""
        try:
            async with session.turn(self.prompt, turn_id=self.turn_id) as running:
                async for _ in running:
                    pass
                await running.result()
        except TurnSuspended as waiting:
            await _answer(lash, waiting)
            return False
        return True

    async def _recovered(self, lash: Lash, session: Session, force: bool) -> Sequence[RecoveredTurn]:
        while True:
            try:
                return await session.recover(force=force)
            except TurnSuspended as waiting:
                await _answer(lash, waiting)


async def _answer(lash: Lash, waiting: TurnSuspended) -> None:
    """Answer all that a turn waits for."""
    asked = {each.key: each.question for each in await lash.pending() if each.question is not None}
    for key in waiting.keys:
        if (question := asked.get(key)) is not None:
            await lash.answer(key, question.choices[0].choice_id)
        else:
            await lash.resolve(key, error="nobody knows whether it happened")


async def _bury(lash: Lash, session_id: str) -> None:
    """Let go of a dead process's lease where its death can't be proven to the store."""
    store: Any = lash.store
    lease = await store.load_lease(session_id)
    if lease is not None and lease.holder.process is None:
        await store.release_lease(lease)


async def crash_at_every_effect(
    open_host: OpenHost,
    prompt: TurnInput | str,
    *,
    session_id: str = "crash",
    turn_id: str = "crash",
    mode: str | None = None,
    points: Callable[[CrashPoint], bool] | None = None,
    checks: Iterable[Callable[[Crash], None]] = (),
    blur: Blur = str,
    database: Callable[[Path], str] = lambda folder: f"sqlite:///{folder}/crash.db",
) -> CrashReport:
    """Run a turn, then run it again for each place that it passed, kill it there, and let a new host go on.

    `open_host` opens a host on a database, as in `lambda url: Lash.open(url, tools=[…])`; it is called for every
    process that would be one, so what the model says must follow from the request, not from a counter. `points` chooses
    among the places; `checks` are called with each `Crash` after the kit's own, and raise `AssertionError`. `blur`
    takes out of a text what differs from run to run, such as a time, before it is compared. `database` makes a URL
    of an empty folder.

    Each time:

    - exactly one turn is committed, and no input is stranded;
    - an effect with a recorded outcome isn't executed again, an unsafe one never twice;
    - a call that a crash left unknown says so (`unknown_after_crash`), or is resolved as failed, if its tool waits for
      a person; a plugin's question is answered with the first of its choices;
    - where nothing was uncertain, answer, messages, tool calls and plugin states are those of the golden turn. So is
      usage, which says `at_least` where a reply's record was lost.

    Raises `AssertionError` that names the place.
    """
    subject = Subject(open_host=open_host, prompt=normalized(prompt), session_id=session_id, turn_id=turn_id, mode=mode)
    with tempfile.TemporaryDirectory(prefix="lash-crash-") as folder:
        golden, trace = await golden_run(subject, _url(database, folder, 0))
        chosen = [each for each in trace if points is None or points(each)]
        if not chosen:
            raise AssertionError(f"`points` chose none of the {len(trace)} places that turn `{turn_id}` passes")
        crashes = []
        for number, point in enumerate(chosen, 1):
            watch, url = Watch(point), _url(database, folder, number)
            await subject.live(url, watch)
            try:
                ending = await subject.survive(url)
            except LashError as error:
                raise AssertionError(f"killed {point}: a new host couldn't end the turn: {error}") from error
            judge(point, golden, ending, watch.started, blur)
            crash = Crash(point=point, reached=watch.dead, ending=ending, started=tuple(watch.started))
            for check in checks:
                check(crash)
            crashes.append(crash)
    return CrashReport(golden=golden, trace=trace, crashes=tuple(crashes))


async def golden_run(subject: Subject, url: str) -> tuple[Ending, tuple[CrashPoint, ...]]:
    """The turn that nobody kills: how it ends, and the places that it passes."""
    watch = Watch()
    await subject.live(url, watch)
    ending = await subject.survive(url)
    if not ending.was_committed:
        raise AssertionError(f"turn `{subject.turn_id}` wasn't committed, so there is nothing to compare crashes with")
    return ending, tuple(watch.passed)


def _url(database: Callable[[Path], str], folder: str, number: int) -> str:
    made = Path(folder) / str(number)
    made.mkdir()
    return database(made)
