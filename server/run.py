"""One session that this process owns: its engine, its rounds as a task, and its commands carried out."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack, nullcontext
from functools import partial
from typing import Any

import structlog
from pydantic import TypeAdapter, ValidationError

from sandbox import events as ev
from sandbox.engine import Engine
from sandbox.errors import BudgetExhausted, LeaseLost, ModelError, SandboxError, SessionError, StoreError
from sandbox.events import Recorded
from sandbox.running import at_work, spendable
from sandbox.society import Human
from sandbox.store import queries
from sandbox.store.inbox import Command, Receipt
from sandbox.store.log import Handle
from server import invitations
from server.booking import Booking, key_of, payer_of
from server.deltas import Deltas
from server.resources import Resources
from server.wire import commands as do

log = structlog.get_logger("sandbox.run")
COMMAND: TypeAdapter[do.Command] = TypeAdapter(do.Command)
IN_TURN = frozenset(
    {"start", "step", "pause", "stop", "take", "leave", "add_seat", "change_rubric", "roll_back_model"}
)
"""They depend on what is, so one is over before the next begins; the others may meet."""
_REMEMBERED = 10_000
"""Commands that were carried out, so that one that is found late in the inbox is not begun again."""
PERSON_NEEDED = "Say who you are: join with a person's key, or name a person."


class Run:
    """See the module. ``used`` is when it was last needed, on the monotonic clock."""

    engine: Engine

    def __init__(
        self,
        parts: Resources,
        handle: Handle,
        listener: Callable[[Recorded], None],
        tell: Callable[[str, str], None],
    ) -> None:
        self.handle = handle
        self.key = handle.key
        self.used = time.monotonic()
        self.head = 0
        self.is_lost = False
        self._parts = parts
        self._listener = listener
        self._booking = Booking(parts.keys, self._over_budget)
        self._deltas = Deltas(handle, parts.server.delta_interval_s, partial(tell, handle.key))
        self._stack = AsyncExitStack()
        self._task: asyncio.Task[None] | None = None
        self._background: set[asyncio.Task[Any]] = set()
        self._commands: dict[int, asyncio.Task[Command]] = {}
        self._begun = asyncio.Event()
        self._failure: SandboxError | None = None
        self._turn = asyncio.Lock()
        self._carried_out: OrderedDict[int, None] = OrderedDict()

    @property
    def is_busy(self) -> bool:
        """Whether anything goes on, or anybody sits there."""
        going_on = self.is_running or self._background or self._commands
        return bool(going_on or self.engine.progress.people or self.engine.is_asked_aside)

    @property
    def is_running(self) -> bool:
        """Whether rounds go on."""
        return self._task is not None and not self._task.done()

    async def open(self) -> None:
        """Take up the session's state; the lease is held until ``close``."""
        parts = self._parts
        self.engine = await self._stack.enter_async_context(
            at_work(
                parts.store,
                self.handle,
                parts.settings,
                parts.redact,
                ceiling=parts.server.budget,
                on_lost=self._lost,
                listener=self._listen,
                streamer=self._deltas.add,
                workers=parts.workers,
            )
        )
        database, progress = parts.store.database, self.engine.progress
        self.head = await asyncio.to_thread(queries.head, database, self.key)
        starter = await asyncio.to_thread(queries.last_actor, database, self.handle.id, ("start", "step"))
        self._booking.payer = key_of(starter)
        askers = await asyncio.to_thread(parts.inbox.askers, self.handle.id) if progress.open else {}
        self._booking.take_over([opened.started for opened in progress.open.values()], askers)

    def _lost(self) -> None:
        """Another process has the session: nothing that is done here goes anywhere."""
        self.is_lost = True

    async def close(self) -> None:
        """End what goes on, without a word in the log, and give the lease back."""
        if hasattr(self, "engine"):  # it may not have come so far
            self.engine.stop_as = None
        for tasks in (self._commands.values(), self._background, [self._task] if self._task else []):
            for task in tuple(tasks):  # commands first: they begin the others
                task.cancel()
                await asyncio.wait([task])
        await self._booking.close()
        await self._stack.aclose()

    def go_on(self) -> None:
        """Take up what another process left: the rounds, or the questions and messages beside them."""
        if self.engine.progress.status == "running":
            until, done = self.engine.progress.until, self.engine.progress.rounds_done
            self.start(None, at_most=None if until is None else max(until - done, 0))
        self._aside(self.engine.finish_loose_ends())

    def start(self, rounds: int | None, *, at_most: int | None = None, budget: float | None = None) -> None:
        """Run the rounds, if they don't run already."""
        if not self.is_running:
            self.engine.stop_as = "stopped"
            self._begun.clear()
            self._failure = None
            self._task = asyncio.create_task(self._rounds(rounds, at_most, budget))

    async def begun(self) -> None:
        """Returns when it is on record that the rounds go on, or when they have ended.

        Raises what kept them from beginning.
        """
        if self._task is not None and self.engine.progress.status != "running":
            begun = asyncio.create_task(self._begun.wait())
            await asyncio.wait({begun, self._task}, return_when=asyncio.FIRST_COMPLETED)
            begun.cancel()
        if self._failure is not None and not self._begun.is_set():
            raise self._failure

    async def pause(self, reason: ev.PauseReason) -> None:
        """Stop the rounds, and say in the log why."""
        self.engine.stop_as = reason
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task])
        await self.engine.pause(reason)  # if it ended without being able to say so

    @property
    def is_adrift(self) -> bool:
        """Whether rounds ought to go on, and nobody sees to it: the database was away when they ended."""
        return not self.is_lost and not self.is_running and self.engine.progress.status == "running"

    async def carry_out(self, command: Command) -> Command:
        """Do what a command asks, once, and return what became of it."""
        self.used = time.monotonic()
        task = self._commands.get(command.id)
        if task is None:
            task = asyncio.create_task(self._carry_out(command))
            self._commands[command.id] = task
            task.add_done_callback(lambda _: self._over_with(command.id))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if task.cancelled() and current is not None and not current.cancelling():
                raise LeaseLost(f"Session {self.key} was closed here meanwhile.") from None
            raise

    def _over_with(self, command: int) -> None:
        self._commands.pop(command, None)
        self._carried_out[command] = None
        if len(self._carried_out) > _REMEMBERED:
            self._carried_out.popitem(last=False)

    async def _carry_out(self, command: Command) -> Command:
        async with self._turn if command.kind in IN_TURN else nullcontext():
            try:
                return await self._carry_out_now(command)
            except LeaseLost:
                self.is_lost = True
                raise

    async def _carry_out_now(self, command: Command) -> Command:
        inbox = self._parts.inbox
        if command.id in self._carried_out:  # it was read from the inbox before it was done
            found = await asyncio.to_thread(inbox.find, command.id)
            if found is None or found.state != "waiting":
                return found or command._replace(state="refused", result={"message": "The session is gone."})
        receipt = Receipt(command.id)
        try:
            wanted = COMMAND.validate_python(command.body["command"])
            interaction = await self._do(command, wanted, command.body.get("person"), receipt)
            if not receipt.is_written:
                await asyncio.to_thread(
                    inbox.settle, self.handle, command.id, "done", {"interaction": interaction}
                )
        except LeaseLost:
            raise
        except StoreError as error:  # it stays in the inbox, and is carried out when the database is back
            log.warning("store_unavailable", session=self.key, error=self._parts.redact(str(error)))
            kept = "The database does not answer. The command is kept; send it again under the same id."
            return command._replace(state="refused", result={"code": "unavailable", "message": kept})
        except (SandboxError, ValueError) as error:
            return await self._refuse(command, _code(error), self._parts.redact(str(error)))
        except Exception:  # a fault of ours must not be met again and again
            log.exception("command_failed", session=self.key, kind=command.kind)
            return await self._refuse(command, "internal", "The server failed. Its log says more.")
        return command._replace(state="done", result={"interaction": interaction})

    async def _refuse(self, command: Command, code: str, message: str) -> Command:
        result = {"code": code, "message": message}
        await asyncio.to_thread(self._parts.inbox.settle, self.handle, command.id, "refused", result)
        return command._replace(state="refused", result=result)

    async def _do(  # noqa: C901 - one case a kind of command
        self, command: Command, wanted: do.Command, person: str | None, receipt: Receipt
    ) -> int | None:
        engine, people = self.engine, self.engine.people
        match wanted:
            case do.Start(rounds=rounds, budget=budget):
                await self._start(command, rounds, budget)
            case do.Step():
                await self._start(command, None, None, at_most=1)
            case do.Pause():
                await self.pause("paused")
            case do.Stop():
                await self.pause("stopped")
            case do.Say(text=text, to=to):
                words = engine.say(text, to or self._everybody(), self._who(person), receipt)
                return await self._begin(command, receipt, words)
            case do.Ask(question=question, seat=seat, society=society):
                name = seat or self._everybody()[0]
                asked = engine.ask(question, name, society=society, receipt=receipt)
                return await self._begin(command, receipt, asked)
            case do.Rate(message=message, value=value, dimension=dimension, reason=reason):
                await self._posted(message)
                by = dimension or engine.progress.society.rubric.peer
                return await engine.vote(message, by, value, reason, self._who(person), receipt)
            case do.Judge():
                return await self._judge(command, wanted, receipt)
            case do.React(message=message, reaction=reaction, on=on):
                await self._posted(message)
                await people.react(message, self._who(person), reaction, on, receipt)
            case do.Take(seat=seat, absent=absent, patience_s=patience):
                await people.take(seat, self._who(person), absent, patience, receipt)
            case do.Leave(seat=seat, force=force):
                await people.give_back(seat, None if force else self._who(person), receipt)
            case do.AddSeat():
                await self._add_seat(wanted, receipt)
            case do.Answer() | do.Skip():
                return await self._answer(wanted, self._who(person), receipt)
            case do.ChangeModel(seat=seat, model=model):
                self._parts.server.check_model(model)
                await engine.amendments.change_model(seat, model, receipt)
            case do.RollBackModel(seat=seat):
                await engine.amendments.roll_back_model(seat, receipt)
            case do.ChangeRubric(rubric=rubric):
                await engine.amendments.change_rubric(rubric, receipt)
        return None

    async def _add_seat(self, wanted: do.AddSeat, receipt: Receipt) -> None:
        server, society = self._parts.server, self.engine.progress.society
        if wanted.model is not None:
            server.check_model(wanted.model)
        if len(tuple(society.seats())) >= server.max_seats:
            raise SessionError(f"A session may have {server.max_seats} seats on this server.")
        joined = await asyncio.to_thread(invitations.people, self._parts.store.database, self.key)
        human = Human(name=wanted.seat, role=wanted.role, model=wanted.model)
        await self.engine.people.add_seat(human, receipt, joined)

    async def _answer(self, wanted: do.Answer | do.Skip, who: str, receipt: Receipt) -> int:
        """Give an answer, and wait until it is on record; raises if the run stops before."""
        number, step = wanted.interaction, wanted.step
        await self._until_asked(number, step)
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        receipt.settled = lambda _: None if written.done() else written.set_result(None)
        receipt.failed = lambda error: None if written.done() else written.set_exception(error)
        people = self.engine.people
        if isinstance(wanted, do.Skip):
            people.skip(number, step, who, receipt)
        else:
            people.answer(number, step, who, text=wanted.text, value=wanted.value, receipt=receipt)
        await written
        return number

    async def _until_asked(self, interaction: int, step: str) -> None:
        """What waits is asked anew when a session has been taken up; that takes a moment."""
        opened = self.engine.progress.open.get(interaction)
        if opened and step in opened.awaited and (self.is_running or self._background):
            await self.engine.people.until_asked(interaction, step, 5)

    async def _judge(self, command: Command, wanted: do.Judge, receipt: Receipt) -> int | None:
        target, question = await self._posted(wanted.message)
        by = wanted.dimension or self.engine.progress.society.rubric.peer
        judged = self.engine.judge(target, question, wanted.seat, by, receipt)
        return await self._begin(command, receipt, judged)

    async def _start(
        self, command: Command, rounds: int | None, budget: float | None, *, at_most: int | None = None
    ) -> None:
        progress = self.engine.progress
        more = rounds is not None and rounds > progress.rounds_done
        if not self.is_running and progress.status == "finished" and not more and not progress.open:
            raise SessionError(
                f"All {progress.rounds_done} rounds are done. Give it more, with rounds = "
                f"{progress.rounds_done + 1} or above, or fork it."
            )
        if budget is not None and self.engine.ledger is not None:
            self.engine.ledger.cap = spendable(progress, budget, self._parts.server.budget)
            if self.is_running:
                await self.engine.allow(budget)
        if not self.is_running:
            self._booking.payer = payer_of(command)
        self.start(rounds, at_most=at_most, budget=budget)
        await self.begun()

    async def _begin(self, command: Command, receipt: Receipt, work: Coroutine[Any, Any, int]) -> int | None:
        """Begin what goes on in the background; returns when it is on record, or fails before."""
        begun: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()

        def settled(interaction: int | None) -> None:
            if interaction is not None:
                self._booking.begun(interaction, payer_of(command))
            if not begun.done():
                begun.set_result(interaction)

        receipt.settled = settled
        task = self._aside(self._paid(work))
        await asyncio.wait({begun, task}, return_when=asyncio.FIRST_COMPLETED)
        return begun.result() if begun.done() else task.result()

    async def _paid(self, work: Coroutine[Any, Any, int]) -> int:
        """Do something that somebody asked for, and book it in the end."""
        try:
            return await work
        finally:
            await self._booking.charge()

    def _aside(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._over)
        return task

    def _over(self, task: asyncio.Task[Any]) -> None:
        self._background.discard(task)
        self.used = time.monotonic()
        if not task.cancelled() and (error := task.exception()):
            self.is_lost = self.is_lost or isinstance(error, LeaseLost)
            log.info("ended_early", session=self.key, error=self._parts.redact(str(error)))

    async def _rounds(self, rounds: int | None, at_most: int | None, budget: float | None) -> None:
        try:
            await self.engine.run(rounds, at_most=at_most, budget=budget)
        except LeaseLost:
            self.is_lost = True
            log.info("lost", session=self.key)
        except BudgetExhausted as error:
            log.info("budget_exhausted", session=self.key, detail=str(error))
        except SandboxError as error:
            self._failure = error
            log.warning("run_failed", session=self.key, error=self._parts.redact(str(error)))
        except asyncio.CancelledError:
            raise
        except Exception:  # a fault of ours: the engine has paused the session and said so in its log
            log.exception("run_failed", session=self.key)
        finally:
            self.used = time.monotonic()
            await self._booking.charge()

    async def _over_budget(self) -> None:
        if self.is_running and asyncio.current_task() is not self._task:
            await self.pause("budget")

    async def _posted(self, message: str) -> tuple[ev.MessagePosted, str]:
        found = await asyncio.to_thread(queries.message, self._parts.store.database, self.key, message)
        if found is None:
            raise SessionError(f"There is no message '{message}' in this session.")
        return found

    def _everybody(self) -> tuple[str, ...]:
        names = tuple(agent.name for agent in self.engine.progress.society.agents if agent.active)
        if not names:
            raise SessionError("No seat is active; there is nobody to speak to.")
        return names

    def _who(self, person: str | None) -> str:
        if person is None:
            raise SessionError(PERSON_NEEDED)
        self.engine.people.check_name(person)
        return person

    def _listen(self, recorded: Recorded) -> None:
        self.head = recorded.seq
        event = recorded.event
        if isinstance(event, ev.RunResumed | ev.RoundStarted):
            self._begun.set()
        elif isinstance(event, ev.MessagePosted | ev.TurnFailed):
            self._deltas.settle(event.interaction, event.step)
        self._booking.take(event)
        self._listener(recorded)


def _code(error: Exception) -> str:
    if isinstance(error, ModelError):
        return f"model_{error.kind}"
    if isinstance(error, StoreError):
        return "unavailable"
    return "invalid" if isinstance(error, ValidationError) else "refused"
