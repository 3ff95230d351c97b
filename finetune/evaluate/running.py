"""Carries an evaluation out: what is missing of it, model by model, kept item by item as it is measured.

Whatever ends it, what was measured stays, and the same evaluation goes on from there.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from finetune.evaluate import suites
from finetune.evaluate.answers import AT_ONCE, UNDER_BUDGET, Answering, AnswerSuite, Told, answer_all
from finetune.evaluate.items import ChoiceSuite, Item, Likelihood, chosen, digest, normal
from finetune.evaluate.people import PeopleSuite
from finetune.evaluate.plan import Figure, Options, Plan, SuitePlan
from finetune.evaluate.provenance import digests, seen, versions
from finetune.job import base_name
from sandbox.errors import UserError
from sandbox.models import weights
from sandbox.models.catalog import Catalog, require_adapters
from sandbox.models.limits import Ledger
from sandbox.models.spec import Spec, parse
from sandbox.running import Store
from sandbox.settings import Settings, redactor
from sandbox.society import Limits
from sandbox.store import evaluations
from sandbox.store.evaluations import Measured
from sandbox.store.tables import EvaluationRow

SEEN = "items that an adapter was trained on"


class Progress(NamedTuple):
    """Where an evaluation stands."""

    doing: str
    done: int
    of: int


Listener = Callable[[Progress], None]


@dataclass(slots=True)
class Loaded:
    """A suite with the items that count."""

    suite: ChoiceSuite | AnswerSuite | PeopleSuite
    items: list[Item]


@dataclass(slots=True)
class Prepared:
    """A plan and its suites by name."""

    plan: Plan
    suites: Mapping[str, Loaded]


@dataclass(slots=True)
class Outcome:
    """What came of it: how many items failed, by reason."""

    failures: dict[str, int] = field(default_factory=dict)


def prepare(store: Store, settings: Settings, options: Options, command: str = "") -> Prepared:
    """Load the suites and make the plan. Raises ``UserError`` for what can't be measured."""
    options = suites.resolved(store, options)
    require(settings, options)
    known, notes = (set(), []) if options.keep_seen else seen(store, options.models)
    loaded: dict[str, Loaded] = {}
    planned = []
    for name in dict.fromkeys(options.suites):
        suite = suites.load(name, options.data, settings, store, chat=options.chat)
        fresh = [item for item in suite.items if not any(normal(text) in known for text in item.asked)]
        dropped = dict(suite.source.dropped)
        if len(fresh) < len(suite.items):
            dropped[SEEN] = len(suite.items) - len(fresh)
        if not fresh:
            raise UserError(
                f"Nothing of '{name}' is left: its items are what an adapter was trained on. Take other "
                "data, or measure on them all the same with --keep-seen."
            )
        items = chosen(fresh, options.limit, options.seed, name)
        loaded[name] = Loaded(suite, items)
        figures = tuple(Figure(**metric._asdict()) for metric in suite.metrics)
        planned.append(
            SuitePlan(
                name=name,
                source=suite.source.name,
                digest=digest(items),
                items=len(items),
                dropped=dropped,
                figures=figures,
            )
        )
    notes += [
        f"{model} shares its weights with its judge: the ratings of its answers may favour it."
        for model in judges_itself(options)
    ]
    plan = Plan(
        options=options,
        suites=tuple(planned),
        command=command,
        digests=digests(settings, options.models),
        versions=versions(),
        notes=tuple(notes),
    )
    return Prepared(plan, loaded)


def reload(store: Store, settings: Settings, plan: Plan) -> Prepared:
    """The suites of a plan again. Raises ``UserError`` if their data has changed."""
    prepared = prepare(store, settings, plan.options, plan.command)
    for then, now in zip(plan.suites, prepared.plan.suites, strict=True):
        if (then.digest, then.items) != (now.digest, now.items):
            raise UserError(
                f"The data of '{then.name}' ({then.source}) has changed since the evaluation was begun, or "
                "an adapter's dataset has. Begin a new one."
            )
    for name, known in plan.digests.items():
        if prepared.plan.digests.get(name) != known:
            raise UserError(f"The weights of {name} are others than when it was begun. Begin a new one.")
    return Prepared(plan, prepared.suites)


def require(settings: Settings, options: Options) -> None:
    """Raise ``UserError`` for models that can't be measured so."""
    specs = {model: parse(model) for model in (*options.models, *([options.judge] if options.judge else ()))}
    if len(set(options.models)) < len(options.models):
        raise UserError("A model is named twice.")
    for name in options.suites:
        if not suites.is_known(name):
            raise UserError(f"There is no suite '{name}'. There are: {suites.names()}.")
    require_adapters(settings, specs)
    judged = [name for name in options.suites if name in suites.OFFERED and suites.OFFERED[name].judged]
    scored = [name for name in options.suites if not suites.talks(name)]
    if judged and not options.judge:
        raise UserError(
            f"{' and '.join(judged)}: a judge rates the answers. Name a model that is not itself measured, "
            "by --judge MODEL."
        )
    remote = [model for model in options.models if specs[model].family != "local"]
    if scored and remote:
        raise UserError(
            f"{', '.join(scored)}: likelihoods are read from local models only, and {remote[0]} is none. "
            "Leave it out, or take hh, hh-a or people:SESSION."
        )
    if scored:
        weights.require_local()


def judges_itself(options: Options) -> list[str]:
    """The models that share their weights with the judge: it may prefer what is its own."""
    if not options.judge:
        return []
    judge = parse(options.judge)

    def same(model: str) -> bool:
        spec = parse(model)
        return (spec.family, spec.base, _bare(spec)) == (judge.family, judge.base, _bare(judge))

    return [model for model in options.models if same(model)]


def _bare(spec: Spec) -> str:
    return base_name(f"local/{spec.name}") if spec.family == "local" else spec.name


def carry_out(
    store: Store,
    settings: Settings,
    row: EvaluationRow,
    prepared: Prepared,
    on_progress: Listener = lambda _: None,
) -> Outcome:
    """Measure what is missing. Raises ``ModelError`` for a model that can't be had, ``BudgetExhausted``."""
    outcome = Outcome()
    done = done_of(store, row)
    tasks = missing(prepared, done)
    options = prepared.plan.options
    settings = settings.model_copy(update={"dtype": options.dtype})
    for base, models in _by_base(options.models).items():
        scored = {
            model: [(name, items) for name, items in tasks[model].items() if not suites.talks(name)]
            for model in models
        }
        if any(scored.values()):
            _score(store, settings, row, prepared, base, scored, on_progress)
    judged = {
        model: [(name, items) for name, items in tasks[model].items() if suites.talks(name)]
        for model in options.models
    }
    if any(judged.values()):
        asyncio.run(_answer(store, settings, row, prepared, judged, outcome, on_progress))
    if not outcome.failures:
        evaluations.finish(store.database, row)
    return outcome


def done_of(store: Store, row: EvaluationRow) -> set[tuple[str, str, str]]:
    """Model, suite and item of all that is measured."""
    return {(one.model, one.suite, one.item) for one in evaluations.measured(store.database, row)}


def missing(prepared: Prepared, done: Collection[tuple[str, str, str]]) -> dict[str, dict[str, list[Item]]]:
    """What is yet to be measured, by model and suite."""
    return {
        model: {
            name: items
            for name, loaded in prepared.suites.items()
            if (items := [item for item in loaded.items if (model, name, item.id) not in done])
        }
        for model in prepared.plan.options.models
    }


def _by_base(models: Sequence[str]) -> dict[str, list[str]]:
    """Local models by what they are based on, the base itself first: it has no adapter to be kept out."""
    found: dict[str, list[str]] = {}
    for model in sorted(models, key=lambda model: bool(parse(model).adapter)):
        spec = parse(model)
        if spec.family == "local":
            found.setdefault(spec.name, []).append(model)
    return found


def _score(
    store: Store,
    settings: Settings,
    row: EvaluationRow,
    prepared: Prepared,
    base: str,
    tasks: Mapping[str, Sequence[tuple[str, list[Item]]]],
    on_progress: Listener,
) -> None:
    from finetune.evaluate.likelihood import Scorer

    on_progress(Progress(f"loading local/{base}", 0, 0))
    loaded = weights.load(base, settings.cache_dir, device=settings.device, dtype=settings.dtype)
    for number, (model, several) in enumerate(tasks.items()):
        if not several:
            continue
        if adapter := parse(model).adapter:
            loaded = weights.attach(loaded, f"adapter_{number}", settings.adapters_dir / adapter)
            loaded.model.set_adapter(f"adapter_{number}")
        scorer = Scorer(loaded.model, loaded.tokenizer, loaded.window)
        for name, items in several:
            suite: Any = prepared.suites[name].suite
            calls = [suite.calls(item) for item in items]
            kept = _Kept(store, row, Progress(f"{name}: {model}", 0, len(items)), on_progress)

            def scored(
                place: int,
                found: list[Likelihood],
                *,
                suite: Any = suite,
                items: list[Item] = items,
                kept: _Kept = kept,
                model: str = model,
                name: str = name,
            ) -> None:
                item = items[place]
                kept.keep(Measured(model, name, item.id, suite.scores(item, found)))

            scorer.score(calls, scored)
            kept.flush()
    del loaded
    gc.collect()


class _Kept:
    """Writes what was measured in small portions: a crash costs one of them."""

    def __init__(self, store: Store, row: EvaluationRow, progress: Progress, on_progress: Listener) -> None:
        self._store = store
        self._row = row
        self._progress = progress
        self._on_progress = on_progress
        self._waiting: list[Measured] = []
        on_progress(progress)

    def keep(self, measured: Measured) -> None:
        self._waiting.append(measured)
        if len(self._waiting) >= 16:
            self.flush()

    def flush(self) -> None:
        evaluations.add(self._store.database, self._row, self._waiting)
        self._progress = self._progress._replace(done=self._progress.done + len(self._waiting))
        self._waiting = []
        self._on_progress(self._progress)


async def _answer(
    store: Store,
    settings: Settings,
    row: EvaluationRow,
    prepared: Prepared,
    tasks: Mapping[str, Sequence[tuple[str, list[Item]]]],
    outcome: Outcome,
    on_progress: Listener,
) -> None:
    options = prepared.plan.options
    redact = redactor()
    catalog = Catalog(
        settings,
        Limits(),
        redact,
        ledger=Ledger(options.budget),
        on_load=lambda name: on_progress(Progress(f"loading local/{name}", 0, 0)),
    )
    at_once = AT_ONCE if options.budget is None else UNDER_BUDGET
    answering = Answering(options.max_tokens, options.temperature, options.seed, at_once)
    try:
        for model, several in tasks.items():
            for name, items in several:
                kept = _Kept(store, row, Progress(f"{name}: {model}", 0, len(items)), on_progress)

                def told(
                    item: Item, told: Told, *, kept: _Kept = kept, model: str = model, name: str = name
                ) -> None:
                    if told.scores is None:
                        why = told.detail["failure"]
                        outcome.failures[why] = outcome.failures.get(why, 0) + 1
                    else:
                        kept.keep(Measured(model, name, item.id, told.scores, told.detail))

                suite = prepared.suites[name].suite
                try:
                    if isinstance(suite, PeopleSuite):
                        await suite.measure(items, model, catalog.model, redact, answering, told)
                    else:
                        await answer_all(items, model, options.judge, catalog.model, redact, answering, told)
                finally:
                    kept.flush()
    finally:
        await catalog.close()
