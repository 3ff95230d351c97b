"""A file's rows as groups that wait on disk: what is kept in memory of each is what selection looks at.

So a file may be larger than memory. Rows of one prompt that make one group are brought together at the end.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from finetune import formats
from finetune.groups import Group, Kind
from finetune.rows import Pairing, Row, merged


class Origin(NamedTuple):
    """What many groups have in common."""

    kind: Kind
    source: str
    session: str
    people: tuple[str, ...]


class Sketch(NamedTuple):
    """What is kept in mind of a group. ``place`` is where it lies; ``size`` counts rated candidates."""

    place: int
    asked: bytes
    size: int
    unrated: int
    origin: Origin

    @property
    def kind(self) -> Kind:
        """The group's kind."""
        return self.origin.kind

    @property
    def source(self) -> str:
        """Who said the best of it."""
        return self.origin.source

    @property
    def session(self) -> str:
        """Where it was said."""
        return self.origin.session

    @property
    def people(self) -> tuple[str, ...]:
        """Whose words or ratings are in it."""
        return self.origin.people


class Intake:
    """Groups in a file that goes away with it. ``sketches`` are theirs, in the order of their first rows."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by __exit__
        self._end = 0
        self._origins: dict[Origin, Origin] = {}
        self.sketches: list[Sketch] = []

    def __enter__(self) -> Intake:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def take(
        self, form: str, rows: Iterable[Row], pairing: Pairing, notes: Counter[str], *, strict: bool
    ) -> None:
        """Take rows in. What is not read of them is counted in ``notes``; see ``formats.told``."""
        found: list[Sketch] = []
        by_prompt: dict[bytes, Sketch | list[Sketch]] = {}  # mostly one, without a list
        for row in formats.told(form, rows, pairing, notes, strict=strict):
            sketch = self._add(row.group)
            found.append(sketch)
            if not row.joins:
                continue
            known = by_prompt.setdefault(formats.key(row.group), sketch)
            if isinstance(known, list):
                known.append(sketch)
            elif known is not sketch:
                by_prompt[formats.key(row.group)] = [known, sketch]
        several = {same[0].place: same for same in by_prompt.values() if isinstance(same, list)}
        del by_prompt
        inside = {sketch.place for same in several.values() for sketch in same}
        for sketch in found:
            if sketch.place in several:
                groups = [self.group(other) for other in several[sketch.place]]
                self.sketches += [self._add(group) for group in merged(groups)]
            elif sketch.place not in inside:
                self.sketches.append(sketch)

    def group(self, sketch: Sketch) -> Group:
        """The group of a sketch."""
        self._file.seek(sketch.place)
        return Group.model_validate_json(self._file.readline())

    def groups(self, sketches: Iterable[Sketch]) -> Iterator[Group]:
        """The groups of sketches, one at a time."""
        return map(self.group, sketches)

    def _add(self, group: Group) -> Sketch:
        line = group.model_dump_json().encode() + b"\n"
        self._file.seek(self._end)
        self._file.write(line)
        place, self._end = self._end, self._end + len(line)
        origin = Origin(group.kind, group.source, group.session, group.people)
        origin = self._origins.setdefault(origin, origin)
        return Sketch(place, group.asked, group.size, len(group.candidates) - group.size, origin)
