"""The same comparison run again with other seeds: what differs from run to run, and how much. Pure.

An item of a later run has the run's number in its name; so runs are told apart wherever items are.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

from finetune.evaluate.items import ALPHA
from finetune.evaluate.plan import Plan

_MARK = "@"


class Between(NamedTuple):
    """The difference (second − first) by run, their mean, and how far the runs lie apart.

    ``deviation`` is the standard deviation between runs; ``low`` to ``high`` hold the mean of further runs'
    differences with 95 % (Student's t), None where all are the same.
    """

    runs: tuple[float, ...]
    mean: float
    deviation: float
    low: float | None
    high: float | None


def label_of(model: str, run: int) -> str:
    """The label of a model's session in a run, from 1."""
    return model if run == 1 else f"{model}, run {run}"


def item_of(item: str, run: int) -> str:
    """An item's name in a run."""
    return item if run == 1 else f"{item}{_MARK}{run}"


def run_of(item: str) -> int:
    """The run that an item is of."""
    _, mark, run = item.rpartition(_MARK)
    return int(run) if mark and run.isdecimal() else 1


def between(first: Mapping[str, float | None], second: Mapping[str, float | None]) -> Between | None:
    """How the difference of two models varies between runs; None with fewer than two runs."""
    by_run: dict[int, list[float]] = defaultdict(list)
    for item, known in sorted(first.items()):
        value = second.get(item)
        if known is not None and value is not None:
            by_run[run_of(item)].append(value - known)
    if len(by_run) < 2:
        return None
    runs = [math.fsum(by_run[run]) / len(by_run[run]) for run in sorted(by_run)]
    mean, deviation = statistics.fmean(runs), statistics.stdev(runs)
    if deviation == 0:
        return Between(tuple(runs), mean, 0.0, None, None)
    from scipy.stats import t

    reach = float(t.ppf(0.975, len(runs) - 1)) * deviation / math.sqrt(len(runs))
    return Between(tuple(runs), mean, deviation, mean - reach, mean + reach)


def told(found: Between) -> str:
    """It in words."""
    runs = ", ".join(f"{value:+.3f}" for value in found.runs)
    within = (
        ""
        if found.low is None or found.high is None
        else f" (95 % over runs: {found.low:+.3f} to {found.high:+.3f})"
    )
    return f"{found.mean:+.3f}{within}; by run {runs}; standard deviation between runs {found.deviation:.3f}"


class ByRun(BaseModel):
    """How a model's difference in a metric varies between runs with other seeds."""

    model_config = ConfigDict(frozen=True)
    suite: str
    metric: str
    model: str
    between: Between

    def told(self) -> str:
        """It in words."""
        return f"{self.suite}, {self.metric}: {self.model} {told(self.between)}."


def by_run(plan: Plan, by_cell: Mapping[tuple[str, str, str], Mapping[str, float | None]]) -> Iterator[ByRun]:
    """What varies between the runs of a plan; ``by_cell`` has values by item, of suite, metric and model."""
    first, *others = plan.options.models
    for suite in plan.suites if plan.runs > 1 else ():
        for figure in suite.figures:
            base = by_cell.get((suite.name, figure.name, first), {})
            for model in others if figure.name != ALPHA else ():
                values = by_cell.get((suite.name, figure.name, model), {})
                if (apart := between(base, values)) is not None:
                    yield ByRun(suite=suite.name, metric=figure.name, model=model, between=apart)
