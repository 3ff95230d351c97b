"""Evaluations of different times as one: their models on the items that all of them measured alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from finetune.evaluate import report, societies
from finetune.evaluate.plan import Plan, SuitePlan
from finetune.evaluate.report import Report
from sandbox.errors import UserError
from sandbox.running import Store
from sandbox.store import evaluations
from sandbox.store.evaluations import Measured
from sandbox.store.tables import EvaluationRow

_ALIKE = ("judge", "chat", "dtype", "max_tokens", "temperature")


class _Part(NamedTuple):
    """One of the evaluations; ``called`` maps its models to what they are called beside the others."""

    row: EvaluationRow
    plan: Plan
    called: Mapping[str, str]


def joined(store: Store, names: Sequence[str]) -> Report:
    """One report of several evaluations. Raises ``UserError`` where they have nothing in common."""
    parts = _parts(store, names)
    first = parts[0]
    for part in parts[1:]:
        _require_alike(first, part)
    told = " and ".join(part.row.name for part in parts)
    shared = [s for s in first.plan.suites if all(_suite(part.plan, s.name) for part in parts)]
    if not shared:
        raise UserError(f"{told} have no suite in common.")
    found: dict[tuple[str, str, str], Measured] = {}
    for part in parts:
        for one in evaluations.measured(store.database, part.row, with_detail=True):
            one = one._replace(model=part.called[one.model])
            found.setdefault((one.model, one.suite, one.item), one)
    models = tuple(dict.fromkeys(name for part in parts for name in part.called.values()))
    kept, counted = [], []
    for suite in shared:
        by_model = [
            {item for model, name, item in found if (model, name) == (known, suite.name)} for known in models
        ]
        common = set.intersection(*by_model)
        if common:
            kept += [one for (_, name, item), one in found.items() if name == suite.name and item in common]
            counted.append(suite.model_copy(update={"items": len(common), "dropped": {}}))
    if not counted:
        raise UserError(f"{told} have measured no item in common.")
    plan = first.plan.model_copy(
        update={
            "options": first.plan.options.model_copy(update={"models": models, "limit": None}),
            "suites": tuple(counted),
            "command": "",
            "sessions": {
                p.called[label]: key
                for p in parts
                for label, key in p.plan.sessions.items()
                if label in p.called
            },
            "lineage": (),
            "digests": {name: digest for part in parts for name, digest in part.plan.digests.items()},
            "notes": tuple(dict.fromkeys(note for part in parts for note in _notes(part))),
        }
    )
    ends = [part.row.finished for part in parts]
    finished = None if None in ends else max(end for end in ends if end)
    name = " + ".join(part.row.name for part in parts)
    return report.make(name, first.row.created, finished, plan, kept, societies.monitored(store, plan))


def _parts(store: Store, names: Sequence[str]) -> list[_Part]:
    """The evaluations. A label that stands for another session before gets its evaluation's name."""
    parts: list[_Part] = []
    known: dict[str, str] = {}
    for name in dict.fromkeys(names):
        row = evaluations.find(store.database, name)
        plan = Plan.model_validate_json(row.plan)
        called = {}
        for model in plan.options.models:
            key = plan.sessions.get(model, "")
            is_other = known.setdefault(model, key) != key
            called[model] = f"{model} ({row.name})" if is_other else model
        parts.append(_Part(row, plan, called))
    return parts


def _require_alike(first: _Part, other: _Part) -> None:
    """Raise ``UserError`` if two evaluations measured in different ways."""
    differs = [
        option
        for option in _ALIKE
        if getattr(first.plan.options, option) != getattr(other.plan.options, option)
    ]
    if first.plan.raters != other.plan.raters:
        differs.append("raters")
    for suite in first.plan.suites:
        same = _suite(other.plan, suite.name)
        if same is None:
            continue
        if suite.figures != same.figures:
            differs.append(f"criteria or scale of {suite.name}")
        elif suite.name == societies.SUITE and suite.digest != same.digest:
            differs.append("society, questions or seed")
    shared = first.plan.digests.keys() & other.plan.digests.keys()
    differs += [
        f"weights of {name}"
        for name in sorted(shared)
        if first.plan.digests[name] != other.plan.digests[name]
    ]
    if differs:
        raise UserError(
            f"{other.row.name} was measured with another {' and another '.join(differs)} than "
            f"{first.row.name}, so they can't be told together."
        )


def _suite(plan: Plan, name: str) -> SuitePlan | None:
    return next((suite for suite in plan.suites if suite.name == name), None)


def _notes(part: _Part) -> list[str]:
    """What is to be known of an evaluation, with its name where it is of that one only."""
    own = [note if note == societies.CAVEAT else f"{part.row.name}: {note}" for note in part.plan.notes]
    return own + [
        f"{part.row.name}: {suite.name}: left out {count}: {reason}."
        for suite in part.plan.suites
        for reason, count in suite.dropped.items()
    ]
