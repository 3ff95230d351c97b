"""Public benchmarks, as lm-eval asks and scores them; only where their rows come from may be our files.

A task of lm-eval says what is asked about a row and what the likelihoods mean for it. Ours: which rows make
one item, what is left out and counted, and the share of groups of four that are right as a whole, which
ETHICS reports (Hendrycks et al., 2021) and lm-eval does not.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from finetune.evaluate.benchmarks import GROUP, Row, mapped
from finetune.evaluate.items import Call, Item, Likelihood, Metric, Scores, Source, digest, identify, unique
from sandbox.errors import MissingExtra, UserError

INSTALL = "pip install 'social-sandbox[eval]'"


class Kind(NamedTuple):
    """A benchmark: its tasks with the metric that each gives, and how a file's rows become theirs.

    ``row`` says why a row is left out, or None where it can't be used. ``group`` makes items of rows, among
    them None for each that is left out: one each where it is None. ``hub`` tells whether lm-eval knows where
    its rows are.
    """

    tasks: Mapping[str, str]
    row: Callable[[Row], Row | str | None]
    help: str
    group: Callable[[Sequence[Row | None], Counter[str]], list[list[Row]]] | None = None
    hub: bool = True


class StandardSuite:
    """A benchmark's rows with the tasks that ask about them.

    ``chat`` puts what is asked into the model's chat template; lm-eval's default, and ours, is plain text.
    """

    def __init__(
        self,
        name: str,
        tasks: Mapping[str, Any],
        items: Sequence[Item],
        source: Source,
        *,
        together: bool,
        chat: bool = False,
    ) -> None:
        self.name = name
        self.items = items
        self.source = source
        self._tasks = tasks
        self._chat = chat
        self._together = together
        self.metrics = tuple(
            Metric(metric, told.help, told.better) for metric, told in _metrics(tasks, together).items()
        )

    def calls(self, item: Item) -> list[Call]:
        """What every task asks about every row of the item."""
        return [call for _, task, row in self._asked(item) for call in self._of(task, row)]

    def scores(self, item: Item, found: Sequence[Likelihood]) -> Scores:
        """The tasks' own metrics, averaged over the item's rows; with groups, whether all were right."""
        told: dict[str, list[float]] = {}
        place = 0
        for name, task, row in self._asked(item):
            count = len(self._of(task, row))
            answers = [(one.logprob, one.is_greedy) for one in found[place : place + count]]
            place += count
            for metric, value in task.process_results(row, answers).items():
                if isinstance(value, int | float):
                    told.setdefault(_named(name, metric, self._tasks), []).append(float(value))
        scores: dict[str, float | None] = {
            metric: sum(values) / len(values) for metric, values in told.items() if metric in self._known()
        }
        if self._together:
            scores["exact"] = float(all(value == 1.0 for value in told["acc"]))
        return scores

    def _known(self) -> set[str]:
        return {metric.name for metric in self.metrics}

    def _asked(self, item: Item) -> Iterator[tuple[str, Any, Row]]:
        for row in item.content:
            for name, task in self._tasks.items():
                yield name, task, row

    def _of(self, task: Any, row: Row) -> list[Call]:
        if self._chat:
            context: Any = task.fewshot_context(
                row, num_fewshot=0, apply_chat_template=True, chat_template=_as_turns
            )
            asked = task.construct_requests(row, context, metadata=("", 0, 1), apply_chat_template=True)
        else:
            context = task.fewshot_context(row, num_fewshot=0)
            asked = task.construct_requests(row, context, metadata=("", 0, 1))
        asked = asked if isinstance(asked, list) else [asked]
        return [Call(_turns(one.args[0]) if self._chat else one.args[0], one.args[1]) for one in asked]


class _Told(NamedTuple):
    help: str
    better: Any


def _metrics(tasks: Mapping[str, Any], together: bool) -> dict[str, _Told]:
    found: dict[str, _Told] = {}
    for name, task in tasks.items():
        for metric, better in task.higher_is_better().items():
            if task.aggregation()[metric].__name__ == "mean":
                told = f"{metric} of lm-eval's {task.task_name}"
                found[_named(name, metric, tasks)] = _Told(told, "higher" if better else "lower")
    if together:
        found["exact"] = _Told(f"groups of {GROUP} that are right as a whole", "higher")
    return found


def _named(name: str, metric: str, tasks: Mapping[str, Any]) -> str:
    return name if len(tasks) > 1 else metric


def _as_turns(turns: Sequence[Mapping[str, str]], **_: Any) -> str:
    """What lm-eval would have had rendered, kept as turns: our own encoding renders it for each model."""
    return json.dumps([[turn["role"], turn["content"]] for turn in turns])


def _turns(context: str) -> Any:
    from sandbox.exchange import ChatMessage

    return tuple(ChatMessage(role, content) for role, content in json.loads(context))


def load(name: str, kind: Kind, file: Path | None, *, chat: bool) -> StandardSuite:
    """The suite ``name`` from a file's rows, or from the hub that lm-eval names.

    Raises ``MissingExtra`` without lm-eval, ``UserError`` for a file that can't be used.
    """
    require_lm_eval()
    dropped: Counter[str] = Counter()
    if file is not None:
        read = mapped(file, kind.row, kind.help, dropped)
        rows = [row for row in read if row is not None]
        tasks = {metric: _task(task, rows) for task, metric in kind.tasks.items()}
        origin = str(file)
    else:
        if not kind.hub:
            raise UserError(f"'{name}' needs a file: give --data {name}=FILE ({kind.help}).")
        tasks = {metric: _hub_task(name, task) for task, metric in kind.tasks.items()}
        first = next(iter(tasks.values()))
        rows = [dict(row) for row in first.eval_docs]
        read = [*rows]
        origin = f"{first.config.dataset_path} of the hub"
    groups = kind.group(read, dropped) if kind.group else [[row] for row in rows]
    return _suite(
        name, tasks, groups, Source(origin, "", dropped), together=kind.group is not None, chat=chat
    )


def load_named(task_name: str, *, chat: bool) -> StandardSuite:
    """Any task of lm-eval that is scored by likelihood, by its name there. Raises ``UserError``."""
    require_lm_eval()
    with _quiet():
        from lm_eval.tasks import TaskManager

        try:
            found = TaskManager().load([task_name])["tasks"]
        except KeyError as error:
            raise UserError(f"lm-eval has no task '{task_name}'. See its list: lm-eval ls tasks") from error
        except Exception as error:  # the hub's library raises many kinds
            raise _unreachable(task_name, error) from error
    if len(found) != 1:
        raise UserError(f"'{task_name}' is a group of lm-eval. Name its tasks: {', '.join(sorted(found))}.")
    (task,) = found.values()
    if task.OUTPUT_TYPE not in ("multiple_choice", "loglikelihood"):
        raise UserError(
            f"lm-eval's '{task_name}' has models write ({task.OUTPUT_TYPE}). Here only its tasks that are "
            "scored by likelihood can be run; for others, run lm-eval against sandbox serve."
        )
    groups = [[dict(row)] for row in task.eval_docs]
    source = Source(f"{task.config.dataset_path} of the hub", "", Counter())
    return _suite(f"lm-eval:{task_name}", {"acc": task}, groups, source, together=False, chat=chat)


def require_lm_eval() -> None:
    """Raise ``MissingExtra`` unless lm-eval is installed."""
    if find_spec("lm_eval") is None:
        raise MissingExtra("This suite", INSTALL)


def _suite(
    name: str,
    tasks: Mapping[str, Any],
    groups: list[list[Row]],
    source: Source,
    *,
    together: bool,
    chat: bool,
) -> StandardSuite:
    items = [
        Item(
            identify(*(json.dumps(row, sort_keys=True, default=str, ensure_ascii=False) for row in group)),
            tuple(text for row in group if (text := _question(row))),
            group,
        )
        for group in groups
    ]
    items = unique(items, source.dropped)
    if not items:
        raise UserError(f"Nothing in {source.name} can be used for '{name}'.")
    source.digest = digest(items)
    return StandardSuite(name, tasks, items, source, together=together, chat=chat)


def _question(row: Row) -> str:
    for name in ("question", "scenario", "situation", "Q", "query"):
        if isinstance(value := row.get(name), str):
            return value
    return ""


# Tasks of lm-eval


def _task(name: str, rows: Sequence[Row]) -> Any:
    """A task of lm-eval, with its own prompts and metrics, over rows of ours."""
    with _quiet():
        from datasets import Dataset
        from lm_eval.api.task import ConfigurableTask

        table = Dataset.from_list(list(rows))
        config = _configuration(name)
        config.pop("process_docs", None)  # rows come as it would leave them
        splits = [config.get(f"{split}_split") for split in ("training", "validation", "test")]
        return ConfigurableTask(
            config=config | {"custom_dataset": lambda **_: {split: table for split in splits if split}}
        )


def _hub_task(suite: str, name: str) -> Any:
    with _quiet():
        from lm_eval.api.task import ConfigurableTask

        try:
            return ConfigurableTask(config=_configuration(name))
        except Exception as error:  # the hub's library raises many kinds
            raise _unreachable(suite, error) from error


def _configuration(name: str) -> Row:
    """The configuration of a task, from lm-eval's files or ours, without reading all that it knows."""
    from lm_eval.tasks._yaml_loader import load_yaml

    package, _, path = name.partition("/")
    home = "finetune.evaluate.tasks" if package == "ours" else f"lm_eval.tasks.{package}"
    with resources.as_file(resources.files(home) / f"{path}.yaml") as file:
        config: Row = load_yaml(file)
    return {key: value for key, value in config.items() if key not in ("tag", "group")}


def _unreachable(name: str, error: Exception) -> UserError:
    said = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
    return UserError(
        f"The data of '{name}' can't be had: {said}. Check the network, or give --data {name}=FILE."
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """lm-eval tells of its defaults at length; what matters we say ourselves."""
    logger = logging.getLogger("lm_eval")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
