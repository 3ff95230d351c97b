"""The society file: what it may leave out, and how every mistake in it is named."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from hypothesis import example, given
from hypothesis import strategies as st

from sandbox import blueprint, societyfile
from sandbox.blueprint import examples, read_society, society_from_text
from sandbox.errors import SocietyError
from sandbox.rubric import Criterion, Rubric
from sandbox.society import Lengths, Limits, Observer, Rules, Society
from sandbox.topology import Edges, Grid

EXAMPLES = tuple(examples())


def society(text: str = "") -> Society:
    return society_from_text(text, "mine.toml")


def refused(text: str) -> str:
    with pytest.raises(SocietyError) as caught:
        society(text)
    return str(caught.value)


def names(text: str) -> list[str]:
    return [agent.name for agent in society(text).agents]


def labels(preset: str, rows: int = 3, columns: int = 3, seed: int = 0) -> list[str]:
    grid = f'topology = {{kind="grid", rows={rows}, columns={columns}}}'
    return [agent.label for agent in society(f'seed={seed}\nagents.preset="{preset}"\n{grid}').agents]


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_bundled_example_can_be_run(name: str) -> None:
    found = read_society(name)
    assert found.questions
    assert found.observers
    assert found.rounds > 0
    assert Society.model_validate_json(found.model_dump_json()) == found


def test_the_village_is_among_the_examples() -> None:
    assert {"village", "scripted"} <= set(EXAMPLES)
    assert read_society("village").agents[4].persona.startswith("You keep the village well")


def test_an_empty_file_describes_a_whole_society() -> None:
    found = society()
    assert found.topology == Grid(rows=3, columns=3)
    assert len(found.agents) == 9
    assert len(found.questions) >= 60
    assert {agent.model for agent in found.agents} == {"local/smollm2"}


def test_the_presets_give_their_labels() -> None:
    assert labels("all_good") == ["good"] * 9
    assert labels("all_bad") == ["bad"] * 9
    assert labels("half_half") == ["good"] * 5 + ["bad"] * 4
    assert Counter(labels("mixed_half_half", 4, 5)) == {"good": 10, "bad": 10}


def test_mixed_halves_are_shuffled_by_the_seed() -> None:
    orders = [tuple(labels("mixed_half_half", 4, 4, seed)) for seed in range(10)]
    assert orders == [tuple(labels("mixed_half_half", 4, 4, seed)) for seed in range(10)]
    assert len(set(orders)) > 5


def test_seats_are_named_by_row_and_column_of_the_grid() -> None:
    assert names('topology = {kind="grid", rows=2, columns=3}') == ["A1", "A2", "A3", "B1", "B2", "B3"]
    tall = names('topology = {kind="grid", rows=28, columns=1}')
    assert tall[25:] == ["Z1", "AA1", "AB1"]


def test_a_topology_of_no_kind_is_a_grid() -> None:
    assert society("topology = {rows = 2, columns = 4}").topology == Grid(rows=2, columns=4)


def test_seats_elsewhere_are_numbered() -> None:
    assert names('topology = {kind="ring", size=3}') == ["S1", "S2", "S3"]


def test_given_names_come_first_and_none_occurs_twice() -> None:
    file = 'topology = {kind="ring", size=4}\nagents.names = ["S2", "ada"]'
    assert names(file) == ["S2", "ada", "S1", "S3"]


def test_a_seat_differs_in_what_its_table_says_and_in_nothing_else() -> None:
    found = society("""
        [agents]
        model = "scripted/kind"
        rating_model = "scripted/harsh"
        persona = "You are calm."
        preset = "all_good"
        [[seats]]
        name = "B2"
        model = "scripted/mumbling"
        label = "bad"
        active = false
        """)
    changed, plain = found.agent("B2"), found.agent("B1")
    assert (changed.model, changed.label, changed.active) == ("scripted/mumbling", "bad", False)
    assert (changed.rating_model, changed.persona, changed.place) == ("scripted/harsh", "You are calm.", 4)
    assert (plain.model, plain.label, plain.active, plain.place) == ("scripted/kind", "good", True, 3)


def test_edges_name_their_seats() -> None:
    found = society('topology = {kind="edges", edges=[["ben","ada"],["ada","cem"]]}')
    assert [agent.name for agent in found.agents] == ["ben", "ada", "cem"]
    assert found.topology == Edges(size=3, edges=((0, 1), (1, 2)))


def test_questions_of_a_list_are_cleaned_and_limited() -> None:
    found = society('questions = {list = [" Why? ", "Why?", "", "How?", "When?"], limit = 2}')
    assert [question.text for question in found.questions] == ["Why?", "How?"]


def test_no_text_of_the_file_brings_in_nul() -> None:
    found = society('name = "a\\u0000b"\nquestions.list = ["Why\\u0000?"]\nagents.persona = "\\u0000"')
    assert "\\u0000" not in found.model_dump_json()
    assert found.questions[0].text == "Why\ufffd?"


def test_relative_sources_are_looked_up_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('\ufeff[questions]\nsource = "q.txt"\n[memories]\nsource = "m.csv"\n')
    (tmp_path / "q.txt").write_text("Why?\n")
    (tmp_path / "m.csv").write_text("question,response,label\nWho?,You,good\nWho?,Me,bad\n")
    found = read_society(tmp_path / "mine.toml")
    assert [question.text for question in found.questions] == ["Why?"]
    assert [memory.response for memory in found.memories] == ["You", "Me"]


def test_an_empty_memory_source_means_none() -> None:
    assert society('memories.source = ""').memories == ()
    assert society("rules.prior_memories = 0").memories == ()


MISTAKES = {
    "nope = 1": "nope: there is no such setting",
    "rules.peer = 3": "rules.peer: there is no such setting",
    "observers = [{name='o', model='scripted/kind', label='good'}]": "observers.0.label: there is no such",
    'rounds = "many"': "rounds: ",
    "rounds = -1": "rounds: ",
    "agents = 3": "agents: ",
    "seats = 3": "seats: ",
    "rules = [1]": "rules: ",
    "seed = 1e30": "seed: ",
    f"seed = {2**63}": "seed: ",
    f"seed = {'1' * 5000}": "mine.toml is not TOML",
    "rules.radius = inf": "rules.radius: Input should be a finite number",
    "limits.timeout_s = inf": "limits.timeout_s: Input should be a finite number",
    "lengths.temperature = nan": "lengths.temperature: ",
    'agents.preset = "some"': "agents.preset: ",
    'agents.names = ["9lives"]': "agents.names.0: ",
    'agents.names = ["ada", "ben", "ada"]': "used twice: ada",
    'agents.names = ["All"]': "can't be called all",
    'agents.names = ["A1","A2","A3","A4","A5","A6","A7","A8","A9","x"]': "10 names for 9 seats",
    'agents.names = ["observer"]': "used twice: observer",
    f'agents.persona = "{"x" * 4001}"': "agents.persona: ",
    f'[[seats]]\nname = "A1"\npersona = "{"x" * 4001}"': "seats.0.persona: ",
    '[[seats]]\nmodel = "scripted/kind"': "seats.0.name: ",
    '[[seats]]\nname = "Z9"': "[[seats]] names Z9, but the seats are: A1, A2",
    '[[seats]]\nname = "A1"\n[[seats]]\nname = "A1"': "describes A1 twice",
    '[[seats]]\nname = "A1"\nlabel = "ugly"': "No prior memory is labelled ugly; there are: bad, good",
    'agents.model = "gpt-4"': "'gpt-4' is not a model",
    'agents.rating_model = "litellm/gpt-4"': "'litellm/gpt-4' names no provider",
    'agents.model = "scripted/stedy"': "no scripted model 'stedy'",
    'agents.model = "scripted/steady?fail=often"': "can't fail with 'often'",
    '[[observers]]\nname = "o"\nmodel = "nonsense"': "'nonsense' is not a model",
    'embedding = "word2vec"': "'word2vec' is not an embedding",
    'rubric.language = "xx"': "no prompts in language 'xx'",
    'rubric.language = "english"': "rubric.language: ",
    'rubric.peer = "kindness"': "rubric: peers rate by 'kindness'",
    "rubric.scale = {low = 7, high = 1}": "rubric.scale: the scale must rise",
    "topology = {kind='cube', size=3}": "topology: ",
    "topology = {kind='ring', size=0}": "topology.ring.size: ",
    "topology = {kind='grid', rows=10000, columns=10000}": "at most 10,000 seats",
    "topology = {kind='edges', edges=[]}": "topology.edges.edges: ",
    "topology = {kind='edges', edges=[['a','b','c']]}": "topology.edges.edges.0",
    "topology = {kind='edges', edges=[['ada','ada']]}": "topology.edges.edges: an edge joins two",
    "agents.names=['x']\ntopology = {kind='edges', edges=[['a','b']]}": "Leave agents.names out",
    'questions = {list = ["Why?"], source = "bundled"}': "both a source and a list",
    'questions.list = [" "]': "questions.list holds blank questions",
    f'questions.list = ["{"x" * 50_001}"]': "questions.list.0: ",
    'questions.source = "nowhere.txt"': "no file 'nowhere.txt'",
    "questions.limit = 0": "questions.limit: ",
    'memories.source = "nowhere.csv"': "no file 'nowhere.csv'",
    "rules.per_seat = 9\nquestions.limit = 8": "rules.per_seat is 9, but there are 8 questions",
    "name =": "mine.toml is not TOML",
    "[rules": "mine.toml is not TOML",
    "seed = 1\nseed = 2": "mine.toml is not TOML",
    "rules = " + "[" * 5000 + "]" * 5000: "mine.toml is nested too deeply",
    "rules." + ".".join("a" * 20_000) + " = 1": "mine.toml is nested too deeply",
}


@pytest.mark.parametrize("text", MISTAKES, ids=lambda text: text[:40])
def test_a_mistake_is_refused_with_its_place(text: str) -> None:
    assert MISTAKES[text] in refused(text)


def test_several_mistakes_are_told_together() -> None:
    said = refused('rounds = "x"\nnope = 1\nrules.peers = -1').splitlines()
    assert said[0] == "mine.toml can't be used."
    assert sorted(line.split(":")[0].strip() for line in said[1:]) == ["nope", "rounds", "rules.peers"]


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    latin = tmp_path / "latin.toml"
    latin.write_bytes('name = "Zo\xeb"'.encode("latin-1"))
    with pytest.raises(SocietyError, match=r"latin\.toml' is not UTF-8 text \(byte 10\)"):
        read_society(latin)
    monkeypatch.setattr(blueprint, "MAX_FILE_BYTES", 10)
    with pytest.raises(SocietyError, match=r"latin\.toml' is too large"):
        read_society(latin)
    for nowhere in ("vilage", "x" * 5000, "a\0b", "~nobody-of-this-name/x", tmp_path):
        with pytest.raises(SocietyError, match=r"There is no file '.*village"):
            read_society(nowhere)


PARTS = (
    societyfile.Blueprint, societyfile.AgentsPart, societyfile.SeatPart, societyfile.QuestionsPart,
    societyfile.GridPart, societyfile.CountPart, Rubric, Criterion, Rules, Lengths, Limits, Observer,
)  # fmt: skip
keys = st.sampled_from(sorted({name for part in PARTS for name in part.model_fields} - {"source"}))
values = st.one_of(
    st.integers(),
    st.integers(-1, 3),
    st.floats(),
    st.booleans(),
    st.sampled_from(["grid", "ring", "A1", "scripted/kind", "good", "openai/http://[/v1/x", "hf:"]),
    st.text(max_size=20),
)
trees = st.recursive(
    values,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(keys, inner, max_size=4)),
    max_leaves=12,
)


@given(st.dictionaries(st.one_of(keys, st.text(max_size=8)), trees, max_size=4))
@example({"agents": {"names": []}, "topology": {"kind": "ring", "size": True}})
@example({"agents": {"model": "openai/http://[/v1/x"}})
def test_any_toml_is_a_society_or_a_clear_error(data: dict[str, Any]) -> None:
    try:
        found = society(tomli_w.dumps(data))
    except SocietyError:
        return
    assert Society.model_validate_json(found.model_dump_json()) == found


@given(st.one_of(st.binary(max_size=200), st.text(max_size=200).map(str.encode)))
@example(b"\xff")
def test_any_bytes_are_a_society_or_a_clear_error(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_bytes(data)
    with suppress(SocietyError):
        assert read_society(path).agents
