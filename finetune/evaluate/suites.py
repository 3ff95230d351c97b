"""The suites by name: what each is, what file it takes, and how it is loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from finetune import formats
from finetune.evaluate import benchmarks, people, standard
from finetune.evaluate.answers import AnswerSuite, adversarial_suite, question_suite
from finetune.evaluate.items import ChoiceSuite
from finetune.evaluate.pairs import PairSuite
from finetune.evaluate.people import PeopleSuite
from finetune.evaluate.plan import Options
from finetune.evaluate.standard import Kind
from finetune.groups import Group
from finetune.making import find
from finetune.reading import read_rows
from finetune.rows import Pairing
from sandbox.errors import UserError
from sandbox.running import Store
from sandbox.settings import Settings
from sandbox.store import sessions

PREFIX = "lm-eval:"


class Offer(NamedTuple):
    """A suite that there is. ``files`` are the names its file may have in a folder of data."""

    help: str
    files: tuple[str, ...]
    judged: bool = False
    kind: Kind | None = None


def _ethics(task: str, group: Callable[..., list[list[benchmarks.Row]]], *names: str) -> Kind:
    told = "columns label, " + ", ".join(names)
    return Kind({f"hendrycks_ethics/{task}": "acc"}, benchmarks.labelled(*names), told, group)


_DEONTOLOGY = _ethics("deontology", benchmarks.by_scenario, "scenario", "excuse")
_JUSTICE = _ethics("justice", benchmarks.by_four, "scenario")

OFFERED: Mapping[str, Offer] = {
    "hh": Offer(
        "answers to questions, rated by a judge for alignment and engagement",
        ("hh_questions.txt", "hh_questions.jsonl", "hh_harmless_pairs.jsonl.gz"),
        judged=True,
    ),
    "hh-a": Offer(
        "the same with a misaligned answer put into the prompt",
        ("hh_harmless_pairs.jsonl.gz", "hh_harmless_pairs.jsonl"),
        judged=True,
    ),
    "hh-pref": Offer(
        "which of two replies is likelier (HH-RLHF, or a dataset of yours)",
        ("hh_harmless_pairs.jsonl.gz", "hh_harmless_pairs.jsonl"),
    ),
    "truthfulqa": Offer(
        "TruthfulQA, MC1 and MC2",
        ("truthfulqa.csv", "TruthfulQA.csv"),
        kind=Kind(
            {"truthfulqa/truthfulqa_mc1": "mc1", "truthfulqa/truthfulqa_mc2": "mc2"},
            benchmarks.truthful,
            "columns Question, Best Answer, Correct Answers, Incorrect Answers",
        ),
    ),
    "ethics-deontology": Offer(
        "ETHICS, deontology", ("ethics_deontology_test.csv", "deontology_test.csv"), kind=_DEONTOLOGY
    ),
    "ethics-deontology-hard": Offer(
        "its hard test set",
        ("ethics_deontology_test_hard.csv", "deontology_test_hard.csv"),
        kind=_DEONTOLOGY._replace(hub=False),
    ),
    "ethics-justice": Offer(
        "ETHICS, justice", ("ethics_justice_test_en.csv", "justice_test.csv"), kind=_JUSTICE
    ),
    "ethics-justice-es": Offer(
        "the same in Spanish", ("ethics_justice_test_es.csv",), kind=_JUSTICE._replace(hub=False)
    ),
    "ethics-justice-hi": Offer(
        "the same in Hindi", ("ethics_justice_test_hi.csv",), kind=_JUSTICE._replace(hub=False)
    ),
    "moral-stories": Offer(
        "Moral Stories: the moral action or the other",
        ("moral_stories.jsonl", "moral_stories_full.jsonl"),
        kind=Kind(
            {"moral_stories/moral_stories": "acc"},
            benchmarks.story,
            "norm, situation, intention, moral_action, immoral_action",
        ),
    ),
    "mic": Offer(
        "Moral Integrity Corpus: does a reply keep a rule",
        ("MIC.csv", "mic.csv"),
        kind=Kind({"ours/mic": "acc"}, benchmarks.corpus, "columns Q, A, rot, A_agrees", hub=False),
    ),
}


def names() -> str:
    """All names, for messages."""
    return ", ".join((*OFFERED, f"{PREFIX}TASK", f"{people.PREFIX}SESSION"))


def is_known(name: str) -> bool:
    """Whether there is a suite of that name."""
    return name in OFFERED or name.startswith((PREFIX, people.PREFIX))


def talks(name: str) -> bool:
    """Whether models are asked and answer, in place of being scored by likelihood."""
    return name.startswith(people.PREFIX) or (name in OFFERED and OFFERED[name].judged)


def resolved(store: Store, options: Options) -> Options:
    """The same with sessions by their keys: `last` is another one tomorrow. Raises ``SessionError``."""
    names = [
        people.PREFIX + sessions.find(store.database, name.removeprefix(people.PREFIX)).key
        if name.startswith(people.PREFIX)
        else name
        for name in options.suites
    ]
    return options.model_copy(update={"suites": tuple(dict.fromkeys(names))})


def load(
    name: str, data: Mapping[str, str], settings: Settings, store: Store, *, chat: bool = False
) -> ChoiceSuite | AnswerSuite | PeopleSuite:
    """The suite ``name``. ``data`` maps suites to files or datasets, and "" to a folder of files.

    Raises ``KeyError`` for another name, ``UserError`` for a file that can't be used, ``MissingExtra``
    without lm-eval.
    """
    if name.startswith(PREFIX):
        return standard.load_named(name.removeprefix(PREFIX), chat=chat)
    if name.startswith(people.PREFIX):
        key = sessions.find(store.database, name.removeprefix(people.PREFIX)).key
        return PeopleSuite(name, key, [recorded.event for recorded in store.log.read(key)])
    offer = OFFERED[name]
    reference = data.get(name) or _in_folder(offer, data.get("", ""))
    if offer.kind is not None:
        return standard.load(name, offer.kind, _file(reference), chat=chat)
    if name == "hh":
        return question_suite(reference)
    if name == "hh-a":
        return adversarial_suite(reference)
    if not reference:
        raise UserError(f"'{name}' needs pairs: give --data {name}=FILE, or the name of a dataset.")
    return PairSuite(name, reference, _groups(reference, settings))


def _groups(reference: str, settings: Settings) -> list[Group]:
    """Of a dataset what it holds out (all, if it holds out nothing); else the pairs of an HH-RLHF file."""
    path = Path(reference).expanduser()
    if path.is_file():
        return formats.read("hh-rlhf", read_rows(path), Pairing())
    parts = find(settings, reference).parts
    return list(parts.heldout or parts.train)


def _in_folder(offer: Offer, folder: str) -> str:
    if not folder:
        return ""
    found = [path for name in offer.files if (path := Path(folder).expanduser() / name).is_file()]
    if not found and offer.kind is not None:
        raise UserError(
            f"{folder} has no {' or '.join(offer.files)}. Name the file by --data SUITE=FILE; or leave the "
            "folder out, and the hub is asked for it."
        )
    return str(found[0]) if found else ""


def _file(reference: str) -> Path | None:
    if not reference:
        return None
    path = Path(reference).expanduser()
    if not path.is_file():
        raise UserError(f"There is no file {path}.")
    return path
