"""Plots that need no colour: every model a row with its own mark, its mean and its interval."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from finetune.evaluate.plan import SuitePlan

if TYPE_CHECKING:
    from finetune.evaluate.report import Report

MARKS = "osD^vPX*<>"
_ROW, _HEAD, _WIDTH = 0.32, 0.95, 3.3
_ACROSS = 3
_LEAST = 1e-6


def forest(report: Report, suite: SuitePlan) -> str:
    """A suite's figures as SVG: means with 95 % intervals; the dashed line is the first model's mean."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure as Canvas

    models, figures = report.models, suite.figures
    across = min(len(figures), _ACROSS)
    down = -(-len(figures) // across)
    size = (1.2 + _WIDTH * across + 0.09 * max(map(len, models)), (_HEAD + _ROW * len(models)) * down)
    canvas = Canvas(figsize=size, layout="constrained")
    FigureCanvasSVG(canvas)
    places = list(canvas.subplots(down, across, squeeze=False, sharey=True).flat)
    for axes, figure in zip(places, figures, strict=False):
        _draw(axes, report, suite.name, figure.name)
    for axes in places[len(figures) :]:
        axes.set_visible(False)
    drawn = io.StringIO()
    canvas.savefig(drawn, format="svg", metadata={"Date": None, "Creator": None})
    return drawn.getvalue()[drawn.getvalue().index("<svg") :]


def _draw(axes: Any, report: Report, suite: str, metric: str) -> None:
    """One metric: a row for every model."""
    models = report.models
    axes.set_title(metric, fontsize=9, fontweight="bold", parse_math=False)
    axes.set_yticks(range(len(models)), models, fontsize=8, parse_math=False)
    axes.set_ylim(len(models) - 0.5, -0.5)
    axes.tick_params(axis="x", labelsize=7)
    axes.grid(axis="x", color="0.85", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    known = [cell.value for cell in report.of(suite, metric) if cell.value]
    ends = [end for value in known for end in (value.mean, value.low, value.high) if end is not None]
    if ends and max(ends) - min(ends) < _LEAST:  # no interval: else the axis is in units of rounding
        axes.set_xlim(min(ends) - 0.05, max(ends) + 0.05)
    if report.plan.lineage:  # one follows the other
        means = [
            (value.mean, row)
            for row, model in enumerate(models)
            if (value := report.cell(suite, metric, model).value)
        ]
        axes.plot(*zip(*means, strict=True), color="0.5", linestyle=":", linewidth=1)
    for row, model in enumerate(models):
        value = report.cell(suite, metric, model).value
        if value is None:
            continue
        if value.low is not None and value.high is not None:
            axes.plot((value.low, value.high), (row, row), color="black", linewidth=1.2)
        filled = "black" if row == 0 else "white"
        mark = MARKS[row % len(MARKS)]
        axes.plot(value.mean, row, mark, color="black", markerfacecolor=filled, markersize=6)
        axes.annotate(
            f"{value.mean:.3f}",
            (value.mean, row),
            (0, 6),
            textcoords="offset points",
            ha="center",
            fontsize=7,
        )
        if row == 0:
            axes.axvline(value.mean, color="0.4", linestyle=(0, (4, 3)), linewidth=0.8)
