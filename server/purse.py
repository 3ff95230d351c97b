"""What keys spend: held before a call, settled after it, in the database, so that it holds in every process.

A hold is an upper bound. Calls that only other holds stand in the way of wait for those to be settled.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

import sqlalchemy as sa
import structlog

from sandbox.errors import BudgetExhausted, StoreError
from sandbox.store.database import Database
from sandbox.store.tables import HoldRow, KeyRow

log = structlog.get_logger("sandbox.purse")
KEYS: sa.Table = KeyRow.__table__  # type: ignore[attr-defined]
HOLDS: sa.Table = HoldRow.__table__  # type: ignore[attr-defined]
HELD_S = 1800.0
"""For how long a hold counts whose process has died."""
_AT_ONCE = 4
"""How many works of many calls (a society's) go on at once for a key with a budget: else all begin, and the
money is gone before any of them ends."""
_LOOK_S = 0.5
"""How often a call looks again that waits for holds of other processes."""


class _Late(NamedTuple):
    """What calls have cost, and the holds that they no longer need."""

    cost: float = 0.0
    holds: tuple[int, ...] = ()


class Purses:
    """The budgets of all keys, as one process draws on them. ``changed`` is called when one has spent."""

    def __init__(self, database: Database, changed: Callable[[], None] = lambda: None) -> None:
        self._database = database
        self._changed = changed
        self._queues: WeakValueDictionary[int, asyncio.Lock] = WeakValueDictionary()
        self._settled: WeakValueDictionary[int, asyncio.Event] = WeakValueDictionary()
        self._turns: WeakValueDictionary[int, asyncio.Semaphore] = WeakValueDictionary()
        self._giving_back: set[asyncio.Future[float | None]] = set()
        self._late: dict[int, _Late] = {}

    async def hold(self, key: int, amount: float) -> int | None:
        """Hold ``amount`` of a key's budget, in the order of asking. None if it has no budget.

        Raises ``BudgetExhausted`` if what is spent leaves too little.
        """
        queue = self._queues.setdefault(key, asyncio.Lock())
        settled = self._settled.setdefault(key, asyncio.Event())
        async with queue:
            while True:
                if key in self._late:
                    await asyncio.shield(self.settle(key, None, 0.0))
                settled.clear()
                trying = asyncio.ensure_future(asyncio.to_thread(self._try_hold, key, amount))
                try:
                    held = await asyncio.shield(trying)
                except asyncio.CancelledError:  # whoever asked is gone, and the thread goes on
                    trying.add_done_callback(lambda done: self._give_back(key, done))
                    raise
                if held != 0:
                    return held
                with_others = asyncio.wait_for(settled.wait(), _LOOK_S)
                await asyncio.gather(with_others, return_exceptions=True)

    def _give_back(self, key: int, done: asyncio.Future[int | None]) -> None:
        """Settle a hold that nobody waits for any more."""
        if not done.cancelled() and done.exception() is None and (held := done.result()):
            task = asyncio.ensure_future(self.settle(key, held, 0.0))
            self._giving_back.add(task)
            task.add_done_callback(self._giving_back.discard)

    def turn(self, key: int) -> asyncio.Semaphore:
        """What a work of many calls waits for; to be entered."""
        return self._turns.setdefault(key, asyncio.Semaphore(_AT_ONCE))

    async def settle(self, key: int, held: int | None, cost: float) -> float | None:
        """Give a hold back and book what the call cost. Returns what is left of the budget, if there is one.

        What can't be booked or given back while the database is away is with the next hold or settlement.
        """
        late = self._late.pop(key, _Late())
        owed = _Late(late.cost + cost, late.holds if held is None else (*late.holds, held))
        try:
            left = await asyncio.to_thread(self._settle, key, owed)
        except StoreError as error:
            more = self._late.get(key, _Late())  # another's, meanwhile
            self._late[key] = _Late(owed.cost + more.cost, owed.holds + more.holds)
            log.warning("not_booked_yet", key=key, error=str(error))
            return None
        finally:
            if event := self._settled.get(key):
                event.set()
        self._changed()
        return left

    async def close(self) -> None:
        """Book what is late."""
        await asyncio.gather(*self._giving_back)
        for key in tuple(self._late):
            await self.settle(key, None, 0.0)

    def _try_hold(self, key: int, amount: float) -> int | None:
        """The number of a new hold; None if none is needed, 0 if other holds stand in the way."""
        now = time.time()
        with self._database.writing() as connection:
            locked = sa.update(KEYS).where(KEYS.c.id == key).values(spent=KEYS.c.spent).returning(KEYS)
            row = connection.execute(locked).mappings().one_or_none()
            if row is None or row["budget"] is None:
                return None
            connection.execute(sa.delete(HOLDS).where(HOLDS.c.key == key, HOLDS.c.until < now))
            left = row["budget"] - row["spent"]
            if amount > left:
                raise BudgetExhausted(_too_little(row, amount))
            others = sa.select(sa.func.sum(HOLDS.c.amount)).where(HOLDS.c.key == key)
            if amount > left - (connection.execute(others).scalar() or 0.0):
                return 0
            values = {"key": key, "amount": amount, "until": now + HELD_S}
            made = connection.execute(sa.insert(HOLDS).values(**values).returning(HOLDS.c.id))
            return int(made.scalar_one())

    def _settle(self, key: int, owed: _Late) -> float | None:
        with self._database.writing() as connection:
            spend = sa.update(KEYS).where(KEYS.c.id == key).values(spent=KEYS.c.spent + owed.cost)
            row = connection.execute(spend.returning(KEYS.c.spent, KEYS.c.budget)).one_or_none()
            if owed.holds:
                connection.execute(sa.delete(HOLDS).where(HOLDS.c.id.in_(owed.holds)))
        return None if row is None or row.budget is None else float(row.budget - row.spent)


class KeyPurse:
    """One key's purse. ``over`` is called when nothing is left of its budget."""

    def __init__(self, purses: Purses, key: int, over: Callable[[], Awaitable[None]] | None = None) -> None:
        self._purses = purses
        self._key = key
        self._over = over

    async def hold(self, amount: float) -> int | None:
        """See ``Purse``. What has no price is not looked up."""
        return await self._purses.hold(self._key, amount) if amount else None

    async def settle(self, held: int | None, cost: float) -> None:
        """See ``Purse``."""
        if held is None and not cost:
            return
        left = await self._purses.settle(self._key, held, cost)
        if self._over is not None and left is not None and left <= 0:
            await self._over()


def dollars(amount: float) -> str:
    """An amount as people read it; small ones are not rounded to nothing."""
    return f"${amount:.2f}" if amount >= 0.01 or amount == 0 else f"${amount:.2g}"


def _too_little(row: Any, amount: float) -> str:
    return (
        f"The next call may cost {dollars(amount)}, and of this key's budget of {dollars(row['budget'])} "
        f"{dollars(row['spent'])} is spent. Ask the operator for more."
    )
