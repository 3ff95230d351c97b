"""Carries out the commands to one session: each once, and those that depend on what is in turn.

What became of a command is written in the transaction of what follows from it, or right after it. It knows
what is asked, by whom and as whom, and neither HTTP nor sockets.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Coroutine
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import structlog
from pydantic import TypeAdapter, ValidationError

from sandbox import events as ev
from sandbox.errors import LeaseLost, ModelError, SandboxError, SessionError, StoreError
from sandbox.running import spendable
from sandbox.society import Human
from sandbox.store import queries
from sandbox.store.inbox import Command, Receipt
from server import invitations
from server.booking import payer_of
from server.resources import Resources
from server.wire import commands as do

if TYPE_CHECKING:
    from server.run import Run

log = structlog.get_logger("sandbox.commands")
COMMAND: TypeAdapter[do.Command] = TypeAdapter(do.Command)
IN_TURN = frozenset(
    {"start", "step", "pause", "stop", "take", "leave", "add_seat", "change_rubric", "roll_back_model"}
)
"""They depend on what is, so one is over before the next begins; the others may meet."""
_REMEMBERED = 10_000
"""Commands that were carried out, so that one that is found late in the inbox is not begun again."""
PERSON_NEEDED = "Say who you are: join with a person's key, or name a person."


class Commands:
    """The commands to one session, carried out by its run."""

    def __init__(self, run: Run, parts: Resources) -> None:
        self._run = run
        self._parts = parts
        self._under_way: dict[int, asyncio.Task[Command]] = {}
        self._carried_out: OrderedDict[int, None] = OrderedDict()
        self._turn = asyncio.Lock()

    @property
    def are_under_way(self) -> bool:
        """Whether one is being carried out."""
        return bool(self._under_way)

    async def close(self) -> None:
        """Leave those that are under way to be carried out by whoever has the session next."""
        for task in tuple(self._under_way.values()):
            task.cancel()
            await asyncio.wait([task])

    async def carry_out(self, command: Command) -> Command:
        """Do what a command asks, once, and return what became of it."""
        self._run.used = time.monotonic()
        task = self._under_way.get(command.id)
        if task is None:
            task = asyncio.create_task(self._carry_out(command))
            self._under_way[command.id] = task
            task.add_done_callback(lambda _: self._over_with(command.id))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if task.cancelled() and current is not None and not current.cancelling():
                raise LeaseLost(f"Session {self._run.key} was closed here meanwhile.") from None
            raise

    def _over_with(self, command: int) -> None:
        self._under_way.pop(command, None)
        self._carried_out[command] = None
        if len(self._carried_out) > _REMEMBERED:
            self._carried_out.popitem(last=False)

    async def _carry_out(self, command: Command) -> Command:
        async with self._turn if command.kind in IN_TURN else nullcontext():
            try:
                return await self._carry_out_now(command)
            except LeaseLost:
                self._run.is_lost = True
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
                    inbox.settle, self._run.handle, command.id, "done", {"interaction": interaction}
                )
        except LeaseLost:
            raise
        except StoreError as error:  # it stays in the inbox, and is carried out when the database is back
            log.warning("store_unavailable", session=self._run.key, error=self._parts.redact(str(error)))
            kept = "The database does not answer. The command is kept; send it again under the same id."
            return command._replace(state="refused", result={"code": "unavailable", "message": kept})
        except (SandboxError, ValueError) as error:
            return await self._refuse(command, _code(error), self._parts.redact(str(error)))
        except Exception:  # a fault of ours must not be met again and again
            log.exception("command_failed", session=self._run.key, kind=command.kind)
            return await self._refuse(command, "internal", "The server failed. Its log says more.")
        return command._replace(state="done", result={"interaction": interaction})

    async def _refuse(self, command: Command, code: str, message: str) -> Command:
        result = {"code": code, "message": message}
        await asyncio.to_thread(self._parts.inbox.settle, self._run.handle, command.id, "refused", result)
        return command._replace(state="refused", result=result)

    async def _do(  # noqa: C901 - one case a kind of command
        self, command: Command, wanted: do.Command, person: str | None, receipt: Receipt
    ) -> int | None:
        engine, people = self._run.engine, self._run.engine.people
        match wanted:
            case do.Start(rounds=rounds, budget=budget):
                await self._start(command, rounds, budget)
            case do.Step():
                await self._start(command, None, None, at_most=1)
            case do.Pause():
                await self._run.pause("paused")
            case do.Stop():
                await self._run.pause("stopped")
            case do.Say(text=text, to=to):
                words = engine.say(text, to or self._everybody(), self._who(person), receipt)
                return await self._begin(command, receipt, words)
            case do.Ask(question=question, seat=seat, society=society):
                name = seat or self._everybody()[0]
                asked = engine.ask(question, name, society=society, person=person, receipt=receipt)
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
        server, society = self._parts.server, self._run.engine.progress.society
        if wanted.model is not None:
            server.check_model(wanted.model)
        if len(tuple(society.seats())) >= server.max_seats:
            raise SessionError(f"A session may have {server.max_seats} seats on this server.")
        joined = await asyncio.to_thread(invitations.people, self._parts.store.database, self._run.key)
        human = Human(name=wanted.seat, role=wanted.role, model=wanted.model)
        await self._run.engine.people.add_seat(human, receipt, joined)

    async def _answer(self, wanted: do.Answer | do.Skip, who: str, receipt: Receipt) -> int:
        """Give an answer, and wait until it is on record; raises if the run stops before."""
        number, step = wanted.interaction, wanted.step
        await self._until_asked(number, step)
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        receipt.settled = lambda _: None if written.done() else written.set_result(None)
        receipt.failed = lambda error: None if written.done() else written.set_exception(error)
        people = self._run.engine.people
        if isinstance(wanted, do.Skip):
            people.skip(number, step, who, receipt)
        else:
            people.answer(number, step, who, text=wanted.text, value=wanted.value, receipt=receipt)
        await written
        return number

    async def _until_asked(self, interaction: int, step: str) -> None:
        """What waits is asked anew when a session has been taken up; that takes a moment."""
        opened = self._run.engine.progress.open.get(interaction)
        if opened and step in opened.awaited and (self._run.is_running or self._run.has_background):
            await self._run.engine.people.until_asked(interaction, step, 5)

    async def _judge(self, command: Command, wanted: do.Judge, receipt: Receipt) -> int | None:
        target, question = await self._posted(wanted.message)
        by = wanted.dimension or self._run.engine.progress.society.rubric.peer
        judged = self._run.engine.judge(target, question, wanted.seat, by, receipt)
        return await self._begin(command, receipt, judged)

    async def _start(
        self, command: Command, rounds: int | None, budget: float | None, *, at_most: int | None = None
    ) -> None:
        progress = self._run.engine.progress
        more = rounds is not None and rounds > progress.rounds_done
        if not self._run.is_running and progress.status == "finished" and not more and not progress.open:
            raise SessionError(
                f"All {progress.rounds_done} rounds are done. Start it with more (rounds: "
                f"{progress.rounds_done + 1} or above), or fork it."
            )
        if budget is not None and self._run.engine.ledger is not None:
            self._run.engine.ledger.cap = spendable(progress, budget, self._parts.server.budget)
            if self._run.is_running:
                await self._run.engine.allow(budget)
        if not self._run.is_running:
            self._run.booking.payer = payer_of(command)
        self._run.start(rounds, at_most=at_most, budget=budget)
        await self._run.begun()

    async def _begin(self, command: Command, receipt: Receipt, work: Coroutine[Any, Any, int]) -> int | None:
        """Begin what goes on in the background; returns when it is on record, or fails before."""
        begun: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()

        def settled(interaction: int | None) -> None:
            if interaction is not None:
                self._run.booking.begun(interaction, payer_of(command))
            if not begun.done():
                begun.set_result(interaction)

        receipt.settled = settled
        task = self._run.aside(work)
        await asyncio.wait({begun, task}, return_when=asyncio.FIRST_COMPLETED)
        return begun.result() if begun.done() else task.result()

    async def _posted(self, message: str) -> tuple[ev.MessagePosted, str]:
        found = await asyncio.to_thread(queries.message, self._parts.store.database, self._run.key, message)
        if found is None:
            raise SessionError(f"There is no message '{message}' in this session.")
        return found

    def _everybody(self) -> tuple[str, ...]:
        names = tuple(agent.name for agent in self._run.engine.progress.society.agents if agent.active)
        if not names:
            raise SessionError("No seat is active; there is nobody to speak to.")
        return names

    def _who(self, person: str | None) -> str:
        if person is None:
            raise SessionError(PERSON_NEEDED)
        self._run.engine.people.check_name(person)
        return person


def _code(error: Exception) -> str:
    if isinstance(error, ModelError):
        return f"model_{error.kind}"
    if isinstance(error, StoreError):
        return "unavailable"
    return "invalid" if isinstance(error, ValidationError) else "refused"
