"""Who hears whom: distances and neighbourhoods of every topology."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter, ValidationError

from sandbox.topology import MAX_SEATS, Complete, Edges, Grid, Ring, Topology, neighbours

CHAIN = Edges(size=5, edges=((0, 1), (1, 2), (2, 3)))  # seat 4 is alone

sizes = st.integers(1, 12)


@st.composite
def edge_lists(draw: st.DrawFn) -> Edges:
    size = draw(st.integers(2, 9))
    seat = st.integers(0, size - 1)
    pairs = st.tuples(seat, seat).filter(lambda pair: pair[0] != pair[1])
    return Edges(size=size, edges=tuple(draw(st.lists(pairs, max_size=12))))


topologies = st.one_of(
    st.builds(Grid, rows=sizes, columns=sizes),
    st.builds(Ring, size=sizes),
    st.builds(Complete, size=sizes),
    edge_lists(),
)


def test_a_grid_measures_straight_lines_between_cells() -> None:
    grid = Grid(rows=3, columns=5)
    assert grid.size == 15
    assert grid.position(7) == (1, 2)
    distances = grid.distances(0)
    assert distances[:5] == [0, 1, 2, 3, 4]
    assert distances[6] == pytest.approx(math.sqrt(2))
    assert distances[14] == pytest.approx(math.sqrt(4 + 16))


def test_the_edges_of_a_grid_are_not_joined() -> None:
    grid = Grid(rows=4, columns=4)
    assert 3 not in neighbours(grid, 0)
    assert 4 not in neighbours(grid, 3, 1)  # the next number, but at the other end of the next row


def test_a_ring_measures_the_shorter_way_round() -> None:
    assert Ring(size=6).distances(0) == [0, 1, 2, 3, 2, 1]
    assert Ring(size=5).distances(4) == [1, 2, 2, 1, 0]


def test_everybody_is_next_to_everybody_in_a_complete_society() -> None:
    assert Complete(size=4).distances(2) == [1, 1, 0, 1]
    assert neighbours(Complete(size=4), 2) == (0, 1, 3)


def test_an_edge_list_counts_hops() -> None:
    assert CHAIN.distances(0) == [0, 1, 2, 3, math.inf]
    assert CHAIN.distances(4) == [math.inf, math.inf, math.inf, math.inf, 0]


def test_the_shorter_of_two_ways_counts() -> None:
    ways = Edges(size=5, edges=((0, 1), (1, 2), (2, 4), (0, 3), (3, 4)))
    assert ways.distances(0)[4] == 2


def test_an_edge_named_twice_or_backwards_changes_nothing() -> None:
    once = Edges(size=3, edges=((0, 1),))
    more = Edges(size=3, edges=((0, 1), (1, 0), (0, 1)))
    assert once.distances(0) == more.distances(0)
    assert neighbours(once, 1) == neighbours(more, 1) == (0,)


@pytest.mark.parametrize(
    ("rows", "columns", "radius"),
    [(4, 4, 2), (3, 9, 1), (9, 3, 1), (7, 6, 3), (10, 10, 5), (1, 8, 1), (1, 1, 1)],
)
def test_a_grid_hears_as_far_as_half_its_shorter_side(rows: int, columns: int, radius: int) -> None:
    assert Grid(rows=rows, columns=columns).default_radius == radius


def test_without_a_radius_the_default_one_holds() -> None:
    assert set(neighbours(Grid(rows=3, columns=3), 4)) == {1, 3, 5, 7}
    assert set(neighbours(Ring(size=9), 0)) == {1, 2, 7, 8}
    assert neighbours(CHAIN, 1) == (0, 2)


def test_the_nearest_come_first_and_equals_by_number() -> None:
    assert neighbours(Grid(rows=3, columns=3), 4, 1.5) == (1, 3, 5, 7, 0, 2, 6, 8)
    assert neighbours(Ring(size=7), 3, 3) == (2, 4, 1, 5, 0, 6)
    assert neighbours(CHAIN, 3, 9) == (2, 1, 0)


def test_a_radius_includes_its_rim() -> None:
    grid = Grid(rows=5, columns=5)
    assert {2, 10, 14, 22} < set(neighbours(grid, 12, 2))
    assert not {2, 10, 14, 22} & set(neighbours(grid, 12, 1.99))


@pytest.mark.parametrize("radius", [1, 100, math.inf])
def test_seats_that_cannot_be_reached_are_nobodys_neighbours(radius: float) -> None:
    assert neighbours(CHAIN, 4, radius) == ()
    assert all(4 not in neighbours(CHAIN, seat, radius) for seat in range(4))


@pytest.mark.parametrize(
    "edges", [((0, 3),), ((3, 0),), ((-1, 0),), ((1, 1),), ((0, 1), (2, 2))], ids=lambda edges: str(edges)
)
def test_an_edge_must_join_two_different_seats(edges: tuple[tuple[int, int], ...]) -> None:
    bad = next(f"[{one}, {other}]" for one, other in edges if (one, other) != (0, 1))
    with pytest.raises(ValidationError) as caught:
        Edges(size=3, edges=edges)
    assert bad in str(caught.value)
    assert "0..2" in str(caught.value)


@pytest.mark.parametrize("kind", [Ring, Complete])
@pytest.mark.parametrize("size", [0, -1, MAX_SEATS + 1])
def test_a_society_has_one_seat_at_least_and_not_too_many(kind: type[BaseModel], size: int) -> None:
    with pytest.raises(ValidationError):
        kind(size=size)


def test_a_grid_is_bounded_by_its_cells_and_not_by_its_sides() -> None:
    assert Grid(rows=1, columns=MAX_SEATS).size == MAX_SEATS
    assert Grid(rows=100, columns=100).size == MAX_SEATS
    with pytest.raises(ValidationError, match="at most 10,000 seats, not 10,100"):
        Grid(rows=100, columns=101)


def test_a_single_seat_has_no_neighbours() -> None:
    for topology in (Grid(rows=1, columns=1), Ring(size=1), Complete(size=1), Edges(size=1, edges=())):
        assert neighbours(topology, 0, 100) == ()


@given(topologies)
def test_distances_are_the_same_in_both_directions(topology: Topology) -> None:
    table = [topology.distances(seat) for seat in range(topology.size)]
    assert all(len(row) == topology.size for row in table)
    for one in range(topology.size):
        assert table[one][one] == 0
        for other in range(topology.size):
            assert table[one][other] == table[other][one]
            assert one == other or table[one][other] >= 1


@given(topologies)
def test_no_detour_is_shorter_than_the_distance(topology: Topology) -> None:
    seats = range(min(topology.size, 8))
    table = [topology.distances(seat) for seat in seats]
    assert all(table[a][c] <= table[a][b] + table[b][c] + 1e-9 for a in seats for b in seats for c in seats)


@given(topologies, st.one_of(st.none(), st.floats(0.5, 20)), st.data())
def test_whom_one_hears_hears_one(topology: Topology, radius: float | None, data: st.DataObject) -> None:
    seat = data.draw(st.integers(0, topology.size - 1))
    near = neighbours(topology, seat, radius)
    assert seat not in near
    assert len(set(near)) == len(near)
    assert all(seat in neighbours(topology, other, radius) for other in near)


@given(topologies, st.floats(0.5, 5), st.floats(0.1, 5))
def test_a_larger_radius_begins_with_the_same_neighbours(
    topology: Topology, radius: float, more: float
) -> None:
    near = neighbours(topology, 0, radius)
    assert neighbours(topology, 0, radius + more)[: len(near)] == near


@given(topologies)
def test_a_topology_survives_its_stored_form(topology: Topology) -> None:
    adapter: TypeAdapter[Topology] = TypeAdapter(Topology)
    assert adapter.validate_json(adapter.dump_json(topology)) == topology
