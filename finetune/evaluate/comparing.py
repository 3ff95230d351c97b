"""Before and after: a stored society beside the same one whose agents answer through another model.

Same seats, peers, questions and seed; who rates stays who rates. It plans and measures; who runs the
sessions is told of each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from finetune.adapters import read_card
from finetune.evaluate import societies
from finetune.evaluate.items import UNSEEN, normal
from finetune.evaluate.plan import Plan
from finetune.evaluate.provenance import seen, versions
from finetune.evaluate.replicates import item_of, label_of
from sandbox.errors import UserError
from sandbox.models.catalog import require_adapters
from sandbox.models.spec import base_of, parse
from sandbox.progress import fold
from sandbox.running import Store
from sandbox.schedule import Schedule
from sandbox.seeds import derive
from sandbox.settings import Settings
from sandbox.society import Society
from sandbox.store import evaluations, sessions
from sandbox.store.tables import EvaluationRow


def model_of(settings: Settings, given: str) -> tuple[str, str]:
    """The model that an adapter's name, or a model itself, means, and the base it is for ("" for any)."""
    if "/" in given:
        spec = parse(given)
        return given, base_of(given) if spec.adapter else ""
    require_adapters(settings, [f"local/any#{given}"])
    base = read_card(settings.adapters_dir / given).base
    return f"{base}#{given}", base


def prepare(
    store: Store,
    settings: Settings,
    reference: str,
    given: str,
    *,
    seats: Sequence[str] = (),
    afresh: bool = False,
    runs: int = 1,
    budget: float | None = None,
    command: str = "",
) -> tuple[Plan, list[Society]]:
    """What is to be compared, and the societies that are yet to run: the plan's last sessions have no key.

    The stored session itself is the one without, if it is what its society and seed make; else, or
    ``afresh``, it is run again. With several ``runs`` both are run with further seeds, which follow from the
    society's. ``given`` may be several adapters, as those of several trainings: the runs take turns.

    Raises ``UserError``.
    """
    many = [name for name in given.split(",") if name]
    if len(many) > runs:
        raise UserError(f"{len(many)} adapters take as many runs at least: --seeds {len(many)}")
    row = sessions.find(store.database, reference)
    events = societies.events(store, row.key)
    progress = fold(events)
    if not progress.rounds_done:
        raise UserError(f"No round of {row.key} is done. Go on with it first: sandbox resume {row.key}")
    models = [model_of(settings, name) for name in many]
    model, base = models[0]
    before = progress.society.model_copy(update={"seed": progress.seed, "rounds": progress.rounds_done})
    after = societies.speaking(before, model, base, seats)
    require_adapters(settings, [name for other, _ in models for name in (*after.models(), other)])
    if not (changed := _changed(before, after)):
        raise UserError(
            f"The agents of {row.key} speak through {model} already: nothing to compare. Name a session "
            "that was run without it; see: sandbox sessions list"
        )
    reused = not afresh and societies.is_untouched(events)
    notes = [f"Answer through {model}: {', '.join(changed)}. Who rates is the same."]
    if not reused and not afresh:
        notes.append(
            f"People took part in {row.key}, or it was changed on its way, so it was run again without that."
        )
    known, told = seen(store, [name for name, _ in models])
    further = [before.model_copy(update={"seed": derive(before.seed, "run", n)}) for n in range(2, runs + 1)]
    asked = Counter(normal(record.question) for record in societies.in_rounds(events, before.rounds))
    asked.update(normal(text) for society in further for text in _asked(society))
    unseen = {question: times for question, times in asked.items() if question not in known}
    if trained := len(asked) - len(unseen):
        notes.append(
            f"{given} was trained on {trained} of the {len(asked)} questions asked here: on those, "
            "the difference is no evidence of what it does with new ones."
            + (f" {UNSEEN} has the others alone." if unseen else "")
        )
    label = f"with {given}" + (f" in {', '.join(seats)}" if seats else "")
    labels = {"without": row.key if reused else "", label: ""}
    plan = societies.plan_of(labels, before, command, [*notes, *told], unseen=unseen if trained else None)
    kept = (row.key,) if reused else ()
    options = plan.options.model_copy(update={"budget": budget})
    plan = plan.model_copy(update={"versions": versions(), "stored": kept, "options": options})
    to_run = [*([] if reused else [before]), after]
    for run, seeded in enumerate(further, 1):
        other, its_base = models[run % len(models)]
        to_run += [seeded, societies.speaking(seeded, other, its_base, seats)]
    return (plan if runs == 1 else _repeated(plan, runs, many)), to_run


def _repeated(plan: Plan, runs: int, adapters: Sequence[str]) -> Plan:
    """A plan whose societies run several times."""
    notes = [note for note in plan.notes if note != societies.CAVEAT]
    turns = f" Runs take turns with {', '.join(adapters)}." if len(adapters) > 1 else ""
    notes.append(
        f"{runs} runs with a seed each.{turns} Intervals of the tables tell of chance in the questions; what "
        "is told by run tells of chance in the runs."
    )
    labels = {label_of(label, n): "" for n in range(2, runs + 1) for label in plan.sessions}
    suites = [
        suite.model_copy(update={"items": suite.items * (1 if suite.name == UNSEEN else runs)})
        for suite in plan.suites
    ]
    return plan.model_copy(
        update={
            "runs": runs,
            "sessions": plan.sessions | labels,
            "suites": tuple(suites),
            "notes": tuple(notes),
        }
    )


def create(store: Store, name: str, plan: Plan, to_run: Sequence[Society]) -> EvaluationRow:
    """Put the comparison and its sessions on record. Raises ``UserError`` if the name is taken."""
    evaluations.require_free(store.database, name)
    keys = iter([sessions.create(store.database, store.log, society, lease=False).key for society in to_run])
    named = {label: key or next(keys) for label, key in plan.sessions.items()}
    plan = plan.model_copy(update={"sessions": named})
    return evaluations.create(store.database, name, plan.model_dump_json())


def carry_out(store: Store, row: EvaluationRow, run: societies.Run) -> bool:
    """Have the sessions run that have not, and keep what is measured. False if somebody stopped it."""
    plan = Plan.model_validate_json(row.plan)
    for label, key in plan.sessions.items():
        if key not in plan.stored and not run(label, key):
            return False
    *_, newest = plan.sessions.values()
    rounds = fold(societies.events(store, newest)).society.rounds
    for number in range(1, plan.runs + 1):
        for label in plan.options.models if plan.runs > 1 else plan.sessions:
            events = societies.events(store, plan.sessions[label_of(label, number)])
            society = fold(events).society.model_copy(update={"rounds": rounds})
            found = societies.measured(events, label, society, plan.unseen)
            found = [one._replace(item=item_of(one.item, number)) for one in found]
            evaluations.add(store.database, row, found)
    evaluations.finish(store.database, row)
    return True


def _asked(society: Society) -> list[str]:
    """What a society will be asked in its rounds."""
    schedule = Schedule(society, society.seed)
    return [
        society.questions[assignment.question].text
        for round in range(1, society.rounds + 1)
        for assignment in schedule.assignments(round)
    ]


def _changed(before: Society, after: Society) -> list[str]:
    pairs = zip(before.agents, after.agents, strict=True)
    return [then.name for then, now in pairs if then.model != now.model]
