"""The closed loop: society → dataset → adapter → society, N times, each stage on disk before the next.

Every society is the first one again, of the same seats, questions and seed, with the newest adapter in the
seats that speak through its base; who rates stays who rates. Each adapter is trained on the base itself, on
all societies so far or on the newest, so none inherits another's drift but through what was said and rated.
It knows no terminal: who runs the sessions, and shows progress, is given.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from finetune import job, making
from finetune.adapters import read_card
from finetune.comparisons import Choice
from finetune.datasets import require_name
from finetune.evaluate import societies
from finetune.evaluate.plan import Plan, Step
from finetune.evaluate.provenance import versions
from finetune.groups import KINDS, Kind, Raters
from finetune.job import PLAN, Job, write
from finetune.making import Selection
from finetune.settings import TrainingOptions
from sandbox.errors import UserError
from sandbox.models.spec import base_of
from sandbox.output import make_folder
from sandbox.running import Store
from sandbox.settings import Settings
from sandbox.society import Society
from sandbox.store import evaluations, lineage, sessions
from sandbox.store.tables import EvaluationRow

Progress = Callable[[], AbstractContextManager[Callable[[Any], None]]]
"""Shows how far a training is, as long as it goes on."""
IN_SAMPLE = (
    "Every society is asked the questions whose answers the adapters were trained on: the trend shows what "
    "the loop does to this society, not what an adapter does with new questions. For that: sandbox evaluate."
)
_STATE = "loop.json"


class Loop(BaseModel):
    """What is to be done: ``base`` is what is trained on, ``recent`` whether only on the newest society."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    society: Society
    base: str
    iterations: int = Field(ge=1, le=100)
    kinds: tuple[Kind, ...] = KINDS
    raters: Raters = "all"
    with_peers: bool = False
    recent: bool = False
    training: TrainingOptions = TrainingOptions()
    budget: float | None = Field(default=None, ge=0)
    command: str = ""


class State(BaseModel):
    """A loop and how far it is: a step for every society that was begun."""

    model_config = ConfigDict(extra="forbid")
    loop: Loop
    steps: list[Step] = []


def base_in(society: Society, given: str = "") -> str:
    """The local model that the society's agents speak through, or the one given. Raises ``UserError``."""
    bases = {base_of(agent.model) for agent in society.agents}
    local = sorted(base for base in bases if base.startswith("local/"))
    if given:
        given = given if given.startswith("local/") else f"local/{given}"
        if given not in local:
            raise UserError(f"No agent speaks through {given}. There are: {', '.join(sorted(bases))}.")
        return given
    if len(local) != 1:
        raise UserError(
            "A loop trains the local model that the agents speak through, and here there "
            + (f"are several: {', '.join(local)}. Name one with --base." if local else "is none.")
        )
    return local[0]


def folder_of(settings: Settings, name: str) -> Path:
    """Where a loop's state lies."""
    return settings.data_dir / "loops" / require_name(name, "loop")


@contextmanager
def alone(settings: Settings, name: str) -> Iterator[None]:
    """A loop, for one process at a time. Raises ``UserError`` while another has it."""
    with job.alone(folder_of(settings, name), f"The loop '{name}' is gone on with"):
        yield


def begin(store: Store, settings: Settings, loop: Loop) -> State:
    """Put a loop on disk. Raises ``UserError`` if its name, or one it will give, is taken."""
    folder = folder_of(settings, loop.name)
    if (folder / _STATE).exists():
        raise UserError(
            f"There is a loop '{loop.name}' already. Go on with it by --resume {loop.name}, or choose "
            "another --name."
        )
    for number in range(1, loop.iterations + 1):
        made = _name(loop, number)
        places = (making.datasets_dir(settings) / made, settings.adapters_dir / made)
        rows = (lineage.dataset(store.database, made), lineage.adapter(store.database, made))
        if any(rows) or any(place.exists() for place in places) or _run(settings, made).exists():
            raise UserError(
                f"There is a dataset, training or adapter '{made}' already. Choose another --name."
            )
    evaluations.require_free(store.database, loop.name)
    make_folder(folder)
    state = State(loop=loop)
    _keep(settings, state)
    return state


def listing(settings: Settings) -> list[str]:
    """The names of all loops that were begun, the one that was last worked on first."""
    found = []
    for place in (settings.data_dir / "loops").glob(f"*/{_STATE}"):
        with suppress(OSError):  # it may be forgotten meanwhile
            found.append((-place.stat().st_mtime, place.parent.name))
    return [name for _, name in sorted(found)]


def delete(settings: Settings, name: str) -> None:
    """Forget a loop, so that it can't be gone on with; what it has made stays. Raises ``UserError``."""
    folder = folder_of(settings, name)
    if not folder.is_dir():
        raise UserError(f"There is no loop '{name}'. See: sandbox loops list")
    with alone(settings, name):
        shutil.rmtree(folder)


def find(settings: Settings, name: str) -> State:
    """A loop that was begun, by its name or as ``last``. Raises ``UserError``."""
    if name == "last" and (known := listing(settings)):
        name = known[0]
    place = folder_of(settings, name) / _STATE
    try:
        return State.model_validate_json(place.read_bytes())
    except FileNotFoundError as error:
        raise UserError(f"There is no loop '{name}': {place} is not there.") from error
    except (OSError, ValidationError) as error:
        said = str(error).splitlines()[0]
        raise UserError(f"{place} can't be read: {said}. Begin another loop.") from error


def carry_out(
    store: Store, settings: Settings, state: State, run: societies.Run, progress: Progress
) -> EvaluationRow | None:
    """Do what is missing, and keep the report's figures; None if somebody stopped a society.

    Raises what sessions, datasets and trainings raise; what is done stays done.
    """
    loop = state.loop
    for number in range(loop.iterations + 1):
        if number == len(state.steps):
            key = sessions.create(store.database, store.log, _society(loop, number), lease=False).key
            state.steps.append(Step(session=key))
            _keep(settings, state)
        step = state.steps[number]
        if not run(_label(loop, number), step.session):
            return None
        if number == loop.iterations:
            break
        if not step.adapter:
            made = _name(loop, number + 1)
            _build(store, settings, state, made)
            _train(store, settings, loop, made, progress)
            state.steps[number] = step.model_copy(update={"dataset": made, "adapter": made})
            _keep(settings, state)
    return _report(store, state)


def _society(loop: Loop, number: int) -> Society:
    if number == 0:
        return loop.society
    return societies.speaking(loop.society, f"{loop.base}#{_name(loop, number)}", loop.base)


def _name(loop: Loop, number: int) -> str:
    return require_name(f"{loop.name}-{number}", "loop")


def _label(loop: Loop, number: int) -> str:
    return f"{number}: {_name(loop, number)}" if number else "0: as it was"


def _build(store: Store, settings: Settings, state: State, name: str) -> None:
    if lineage.dataset(store.database, name) is not None:
        return
    if (making.datasets_dir(settings) / name).exists():  # written, and not yet on record
        making.delete(store, settings, name)
    loop = state.loop
    of = [step.session for step in state.steps][-1 if loop.recent else 0 :]
    choice = Choice(kinds=loop.kinds, raters=loop.raters, with_peers=loop.with_peers)
    making.build(store, settings, name, of, choice, Selection(seed=loop.training.seed))


def _train(store: Store, settings: Settings, loop: Loop, name: str, progress: Progress) -> None:
    from finetune.training import train

    if lineage.adapter(store.database, name) is not None:
        return
    data = making.find(settings, name)
    run, out = _run(settings, name), (settings.adapters_dir / name).absolute()
    if out.exists():  # saved, and not yet on record
        card = read_card(out)
        if (card.base, card.lineage.digest) != (loop.base, data.card.digest):
            raise UserError(f"{out} is another adapter than this loop's. Move it away, and go on.")
    else:
        work = Job(data, loop.base, name, loop.training, run, out, settings.cache_dir)
        with progress() as on_progress:
            card = train(work, resume=(run / PLAN).is_file(), on_progress=on_progress)
    lineage.add_adapter(store.database, name, card.base, str(out), card.model_dump_json(), data.card.digest)


def _run(settings: Settings, name: str) -> Path:
    """Where the work on an adapter lies."""
    return settings.data_dir / "training" / name


def _report(store: Store, state: State) -> EvaluationRow:
    loop = state.loop
    labels = {_label(loop, number): step.session for number, step in enumerate(state.steps)}
    plan = societies.plan_of(labels, loop.society, loop.command, [IN_SAMPLE], state.steps)
    plan = plan.model_copy(update={"versions": versions()})
    known = [row for row in evaluations.listing(store.database) if row.name == loop.name]
    if known and Plan.model_validate_json(known[0].plan).sessions != labels:
        raise UserError(
            f"There is another evaluation '{loop.name}' by now. Delete it, and go on: sandbox evaluations "
            f"delete {loop.name}"
        )
    row = known[0] if known else evaluations.create(store.database, loop.name, plan.model_dump_json())
    for label, key in labels.items():
        happened = societies.events(store, key)
        evaluations.add(store.database, row, societies.measured(happened, label, loop.society))
    evaluations.finish(store.database, row)
    return evaluations.find(store.database, row.name)


def _keep(settings: Settings, state: State) -> None:
    write(folder_of(settings, state.loop.name) / _STATE, state.model_dump_json(indent=1) + "\n")
