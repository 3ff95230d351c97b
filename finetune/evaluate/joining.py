"""Evaluations of different times as one: their models on the items that all of them measured alike."""

from __future__ import annotations

from collections.abc import Sequence

from finetune.evaluate import report, societies
from finetune.evaluate.plan import Plan
from finetune.evaluate.report import Report
from sandbox.errors import UserError
from sandbox.running import Store
from sandbox.store import evaluations
from sandbox.store.evaluations import Measured

_ALIKE = ("judge", "chat", "dtype", "max_tokens", "temperature")


def joined(store: Store, names: Sequence[str]) -> Report:
    """One report of several evaluations. Raises ``UserError`` where they have nothing in common."""
    rows = [evaluations.find(store.database, name) for name in dict.fromkeys(names)]
    plans = [Plan.model_validate_json(row.plan) for row in rows]
    first = plans[0]
    for row, plan in zip(rows[1:], plans[1:], strict=True):
        for option in _ALIKE:
            if getattr(plan.options, option) != getattr(first.options, option):
                raise UserError(f"{row.name} was measured with another {option}, so it can't be compared.")
    named = _sessions(plans)
    shared = [suite for suite in first.suites if all(suite.name in _names(plan) for plan in plans)]
    if not shared:
        raise UserError(f"{', '.join(row.name for row in rows)} have no suite in common.")
    found: dict[tuple[str, str, str], Measured] = {}
    for row in rows:
        for one in evaluations.measured(store.database, row, with_detail=True):
            found.setdefault((one.model, one.suite, one.item), one)
    models = tuple(dict.fromkeys(model for plan in plans for model in plan.options.models))
    kept, counted = [], []
    for suite in shared:
        by_model = [
            {item for model, name, item in found if (model, name) == (known, suite.name)} for known in models
        ]
        common = set.intersection(*by_model)
        if common:
            kept += [one for (_, name, item), one in found.items() if name == suite.name and item in common]
            counted.append(suite.model_copy(update={"items": len(common)}))
    if not counted:
        raise UserError(f"{', '.join(row.name for row in rows)} have measured no item in common.")
    options = first.options.model_copy(update={"models": models, "limit": None})
    plan = first.model_copy(
        update={"options": options, "suites": tuple(counted), "command": "", "sessions": named}
    )
    finished = max((row.finished for row in rows if row.finished), default=None)
    return report.make(
        " + ".join(row.name for row in rows),
        rows[0].created,
        finished,
        plan,
        kept,
        societies.monitored(store, plan),
    )


def _names(plan: Plan) -> set[str]:
    return {suite.name for suite in plan.suites}


def _sessions(plans: Sequence[Plan]) -> dict[str, str]:
    """The sessions that labels stand for. Raises ``UserError`` where one stands for several."""
    named: dict[str, str] = {}
    for plan in plans:
        for label, key in plan.sessions.items():
            if named.setdefault(label, key) != key:
                raise UserError(
                    f"'{label}' is {named[label]} in one of them and {key} in another, so they can't be told "
                    "together."
                )
    return named
