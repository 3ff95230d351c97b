"""How a society file becomes a complete ``Society``.

It fills in what the file leaves out (names, places, labels, bundled questions and memories) and turns
every mistake into a message that names the place in the file. It loads no model.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sandbox.embeddings import embedder
from sandbox.errors import SocietyError
from sandbox.models.scripted import ScriptedModel
from sandbox.models.spec import parse
from sandbox.prompts import languages
from sandbox.seeds import shuffled
from sandbox.society import (
    Agent,
    Preset,
    Question,
    Society,
)
from sandbox.societyfile import (
    AgentsPart,
    Blueprint,
    CountPart,
    EdgesPart,
    GridPart,
    Overrides,
    QuestionsPart,
)
from sandbox.sources import BUNDLED, read_memories, read_questions
from sandbox.text import is_blank, storable
from sandbox.topology import Complete, Edges, Grid, Ring, Topology

MAX_FILE_BYTES = 5_000_000


def read_society(path: str | Path, overrides: Overrides | None = None) -> Society:
    """The society that a TOML file describes: a path, or the name of a bundled example.

    Raises ``SocietyError`` for anything that can't be run.
    """
    file = _find(path)
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise SocietyError(f"'{path}' is not UTF-8 text (byte {error.start}). Convert it first.") from error
    except OSError as error:
        raise SocietyError(f"'{path}' can't be read: {error.strerror}.") from error
    return society_from_text(text, str(path), file.parent, overrides)


def society_from_text(
    text: str,
    name: str,
    folder: Path | None = None,
    overrides: Overrides | None = None,
    *,
    sources: bool = True,
) -> Society:
    """The society in a TOML text; ``name`` is used in messages, ``folder`` for relative paths.

    With ``sources`` off, its questions and memories must be in the text, or the bundled ones: a text from
    elsewhere must not have files read.
    """
    try:
        data = _storable(tomllib.loads(text))
    except ValueError as error:  # TOMLDecodeError, or a number of more digits than Python reads
        raise SocietyError(f"{name} is not TOML: {error}.") from error
    except RecursionError as error:
        raise SocietyError(f"{name} is nested too deeply.") from error
    overrides = overrides or Overrides()
    try:
        blueprint = Blueprint.model_validate(_changed(data, overrides))
        if not sources:
            for source in (blueprint.questions.source, blueprint.memories.source):
                if source and source != BUNDLED:
                    raise SocietyError(f"{name} names the source '{source}'. Put its lines into the text.")
        return _build(blueprint, folder, overrides)
    except ValidationError as error:
        raise SocietyError(f"{name} can't be used.\n{explain(error)}") from error


def _storable(value: Any) -> Any:
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, list):
        return [_storable(item) for item in value]
    if isinstance(value, dict):
        return {storable(key): _storable(item) for key, item in value.items()}
    return value


def explain(error: ValidationError) -> str:
    """A validation error as lines of "where: what", without the parts that only programmers read."""
    lines = []
    for fault in error.errors()[:10]:
        where = ".".join(str(part) for part in fault["loc"]) or "the society"
        message = fault["msg"].removeprefix("Value error, ")
        if fault["type"] == "extra_forbidden":
            message = "there is no such setting"
        lines.append(f"  {where}: {message}")
    return "\n".join(lines)


def examples() -> dict[str, str]:
    """The bundled society files: name → text."""
    folder = resources.files("sandbox.bundled").joinpath("societies")
    return {
        entry.name.removesuffix(".toml"): entry.read_text(encoding="utf-8")
        for entry in sorted(folder.iterdir(), key=lambda entry: entry.name)
        if entry.name.endswith(".toml")
    }


def _find(path: str | Path) -> Path:
    given = Path(path)
    try:
        given = given.expanduser()
        size = given.stat().st_size if given.is_file() else None
    except (OSError, RuntimeError, ValueError):  # too long, in a closed folder, of an unknown home
        size = None
    if size is not None:
        if size > MAX_FILE_BYTES:
            raise SocietyError(
                f"'{path}' is too large for a society file. Put questions into a file of their own."
            )
        return given
    bundled = examples()
    if str(path) in bundled:
        return Path(str(resources.files("sandbox.bundled").joinpath("societies", f"{path}.toml")))
    raise SocietyError(
        f"There is no file '{path}'. Write one with: sandbox init — or use an example: {', '.join(bundled)}."
    )


def _changed(data: dict[str, Any], overrides: Overrides) -> dict[str, Any]:
    changed = dict(data)
    if isinstance(topology := changed.get("topology"), dict) and "kind" not in topology:
        changed["topology"] = {"kind": "grid", **topology}
    for key in ("rounds", "seed"):
        if (value := getattr(overrides, key)) is not None:
            changed[key] = value
    for part, key, value in (
        ("rules", "per_seat", overrides.per_seat),
        ("limits", "budget", overrides.budget),
    ):
        if value is not None:
            changed[part] = {**_table(changed, part), key: value}
    if overrides.questions is not None:
        changed["questions"] = {"source": overrides.questions}
    if overrides.seats is not None:
        changed["topology"] = _seats(overrides.seats, _table(changed, "topology"))
        changed["seats"] = []
        changed["agents"] = {k: v for k, v in _table(changed, "agents").items() if k != "names"}
    if overrides.model is not None:
        agents = {k: v for k, v in _table(changed, "agents").items() if k != "rating_model"}
        changed["agents"] = {**agents, "model": overrides.model}
        seats = changed.get("seats", [])
        if isinstance(seats, list):
            dropped = ("model", "rating_model")
            changed["seats"] = [
                {k: v for k, v in seat.items() if k not in dropped} if isinstance(seat, dict) else seat
                for seat in seats
            ]
        observers = changed.get("observers", [{"name": "observer"}])
        if isinstance(observers, list):
            changed["observers"] = [
                {**o, "model": overrides.model} if isinstance(o, dict) else o for o in observers
            ]
    if overrides.answers is not None:
        _answer_through(changed, overrides.answers)
    return changed


def _answer_through(changed: dict[str, Any], model: str) -> None:
    """Have all agents answer through a model; who rates goes on through what it had."""
    common = _table(changed, "agents")
    rating = common.get("rating_model") or common.get("model", AgentsPart().model)
    changed["agents"] = {**common, "model": model, "rating_model": rating}
    seats = changed.get("seats", [])
    if isinstance(seats, list):
        changed["seats"] = [
            {**seat, "model": model, "rating_model": seat.get("rating_model") or seat["model"]}
            if isinstance(seat, dict) and "model" in seat
            else seat
            for seat in seats
        ]


def _table(data: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = data.get(key, {})
    return value if isinstance(value, dict) else {}


def _seats(text: str, topology: Mapping[str, Any]) -> dict[str, Any]:
    if sides := re.fullmatch(r"([0-9]{1,9})[xX]([0-9]{1,9})", text):
        return {"kind": "grid", "rows": int(sides[1]), "columns": int(sides[2])}
    if re.fullmatch(r"[0-9]{1,9}", text):
        kind = topology.get("kind", "ring")
        return {"kind": kind if kind in ("ring", "complete") else "ring", "size": int(text)}
    raise SocietyError(f"--seats takes ROWSxCOLUMNS (as 3x3) or a number, not '{text}'.")


def _build(blueprint: Blueprint, folder: Path | None, overrides: Overrides) -> Society:
    topology, edge_names = _topology(blueprint.topology)
    agents = _agents(blueprint, topology, edge_names)
    source = blueprint.memories.source
    society = Society(
        name=blueprint.name,
        seed=blueprint.seed,
        rounds=blueprint.rounds,
        topology=topology,
        rubric=blueprint.rubric,
        rules=blueprint.rules,
        lengths=blueprint.lengths,
        limits=blueprint.limits,
        embedding=blueprint.embedding,
        agents=agents,
        observers=blueprint.observers,
        questions=_questions(blueprint.questions, None if overrides.questions else folder),
        memories=read_memories(source, folder) if source and blueprint.rules.prior_memories else (),
    )
    check(society)
    return society


def _topology(part: GridPart | CountPart | EdgesPart) -> tuple[Topology, tuple[str, ...]]:
    if isinstance(part, GridPart):
        return Grid(rows=part.rows, columns=part.columns), ()
    if isinstance(part, CountPart):
        return (Ring if part.kind == "ring" else Complete)(size=part.size), ()
    names = tuple(dict.fromkeys(name for edge in part.edges for name in edge))
    index = {name: place for place, name in enumerate(names)}
    edges = tuple((index[one], index[other]) for one, other in part.edges)
    return Edges(size=len(names), edges=edges), names


def _agents(blueprint: Blueprint, topology: Topology, edge_names: Sequence[str]) -> tuple[Agent, ...]:
    common = blueprint.agents
    if common.names and edge_names:
        raise SocietyError("The edges name the seats. Leave agents.names out.")
    if len(common.names) > topology.size:
        raise SocietyError(
            f"agents.names has {len(common.names)} names for {topology.size} seats. Leave some out."
        )
    names = list(edge_names or common.names)
    names += [name for name in _default_names(topology) if name not in names][: topology.size - len(names)]
    unknown = [seat.name for seat in blueprint.seats if seat.name not in names]
    if unknown:
        raise SocietyError(
            f"[[seats]] names {', '.join(unknown)}, but the seats are: {', '.join(names[:20])}."
        )
    described = [seat.name for seat in blueprint.seats]
    if twice := sorted({name for name in described if described.count(name) > 1}):
        raise SocietyError(f"[[seats]] describes {', '.join(twice)} twice. Write one table for each seat.")
    labels = _labels(common.preset, topology.size, blueprint.seed)
    own = {seat.name: seat.model_dump(exclude_none=True) for seat in blueprint.seats}
    return tuple(
        Agent(
            **{
                "name": name,
                "place": place,
                "model": common.model,
                "rating_model": common.rating_model,
                "persona": common.persona,
                "label": labels[place],
                **own.get(name, {}),
            }
        )
        for place, name in enumerate(names)
    )


def _default_names(topology: Topology) -> list[str]:
    if isinstance(topology, Grid):
        return [
            f"{_letters(row)}{column + 1}"
            for row in range(topology.rows)
            for column in range(topology.columns)
        ]
    return [f"S{place + 1}" for place in range(topology.size)]


def _letters(number: int) -> str:
    text = ""
    number += 1
    while number:
        number, digit = divmod(number - 1, 26)
        text = chr(ord("A") + digit) + text
    return text


def _labels(preset: Preset, size: int, seed: int) -> Sequence[str]:
    half = (size + 1) // 2
    match preset:
        case "all_good":
            return ["good"] * size
        case "all_bad":
            return ["bad"] * size
        case "half_half":
            return ["good"] * half + ["bad"] * (size - half)
        case "mixed_half_half":
            return shuffled(["good"] * half + ["bad"] * (size - half), seed, "labels")


def _questions(part: QuestionsPart, folder: Path | None) -> tuple[Question, ...]:
    if part.list and part.source:
        raise SocietyError("[questions] has both a source and a list. Keep one of them.")
    if part.list:
        texts = dict.fromkeys(text.strip() for text in part.list)
        questions = tuple(Question(text=text) for text in texts if not is_blank(text))
        if not questions:
            raise SocietyError("questions.list holds blank questions only. Write some, or leave it out.")
    else:
        questions = read_questions(part.source or BUNDLED, folder)
    return questions[: part.limit]


def check(society: Society) -> None:
    """What only the whole shows: unreadable specs, blank or too few questions, labels without memories.

    Raises ``SocietyError``.
    """
    texts = [question.text for question in society.questions]
    texts += [text for memory in society.memories for text in (memory.question, memory.response)]
    if any(criterion.is_blank for criterion in society.rubric.criteria):
        raise SocietyError("A criterion needs a question, a worst and a best that can be seen.")
    if any(map(is_blank, texts)):
        raise SocietyError("A question, or a prior memory, holds nothing that can be seen. Leave it out.")
    for spec in society.models():
        parsed = parse(spec)
        if parsed.family == "scripted":
            ScriptedModel(parsed.name, dict(parsed.options))
    embedder(society.embedding)
    if society.rubric.language not in languages():
        raise SocietyError(
            f"There are no prompts in language '{society.rubric.language}'. Use: {', '.join(languages())}."
        )
    if society.rules.per_seat > len(society.questions) and society.rounds:
        raise SocietyError(
            f"rules.per_seat is {society.rules.per_seat}, but there are {len(society.questions)} questions."
        )
    if society.memories:
        known = {memory.label for memory in society.memories}
        missing = sorted({agent.label for agent in society.agents} - known)
        if missing:
            raise SocietyError(
                f"No prior memory is labelled {', '.join(missing)}; there are: {', '.join(sorted(known))}."
            )
