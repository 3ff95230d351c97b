"""names in NFC, and the role of whoever rated

Revision: 0006, after 0005
"""

from __future__ import annotations

import json
import unicodedata

import sqlalchemy as sa
import sqlmodel
from alembic import op

revision = '0006'
down_revision = '0005'
branch_labels = None
depends_on = None

# Where people's names stand, alone or within a step.
_NAMES = {
    'interactions': ('seat',),
    'messages': ('seat', 'step', 'person'),
    'ratings': ('rater', 'step', 'target', 'person'),
    'model_calls': ('seat', 'step'),
    'consents': ('person',),
    'invites': ('person',),
}
# Where a name is part of what makes a row unlike the others, with what is kept of two that become one.
_UNIQUE = {
    'keys': (('session', 'person'), None),
    'dataset_sources': (('digest', 'session', 'person'), 'flagged'),
}
_ROLES = {'rate': 'peer', 'observe': 'observer', 'judge': 'judge'}


def upgrade() -> None:
    with op.batch_alter_table('ratings', schema=None) as batch_op:
        batch_op.add_column(sa.Column('role', sqlmodel.sql.sqltypes.AutoString(), nullable=True))
    connection = op.get_bind()
    ratings = sa.table('ratings', sa.column('step'), sa.column('role'))
    for kind, role in _ROLES.items():
        connection.execute(ratings.update().where(ratings.c.step.startswith(f'{kind}.')).values(role=role))
    for name, columns in _NAMES.items():
        for column in columns:
            _normalise(connection, sa.table(name, sa.column(column)), column)
    for name, (columns, kept) in _UNIQUE.items():
        _normalise_unique(connection, name, columns, kept)
    _normalise_commands(connection)


def downgrade() -> None:
    with op.batch_alter_table('ratings', schema=None) as batch_op:
        batch_op.drop_column('role')


def _normal(name: str | None) -> str | None:
    return None if name is None else unicodedata.normalize('NFC', name)


def _normalise(connection: sa.Connection, table: sa.TableClause, name: str) -> None:
    column = table.c[name]
    for (value,) in connection.execute(sa.select(column).distinct()).all():
        if value != _normal(value):
            connection.execute(table.update().where(column == value).values({name: _normal(value)}))


def _normalise_unique(
    connection: sa.Connection, name: str, columns: tuple[str, ...], kept: str | None
) -> None:
    """Of two rows that become one, the one that was in NFC stays, with what only the other has in ``kept``."""
    table = sa.table(name, *map(sa.column, (*columns, *([kept] if kept else []))))
    for row in connection.execute(sa.select(*table.c)).mappings().all():
        person = _normal(row['person'])
        if row['person'] == person:
            continue
        this = sa.and_(*(table.c[column] == row[column] for column in columns))
        values = dict(row) | {'person': person}
        other = sa.and_(*(table.c[column] == values[column] for column in columns))
        if connection.execute(sa.select(sa.literal(1)).where(other).select_from(table)).first():
            connection.execute(table.delete().where(this))
            if kept and row[kept] is not None:
                without = sa.and_(other, table.c[kept].is_(None))
                connection.execute(table.update().where(without).values({kept: row[kept]}))
        else:
            connection.execute(table.update().where(this).values(person=person))


def _normalise_commands(connection: sa.Connection) -> None:
    commands = sa.table('commands', sa.column('body'))
    for (body,) in connection.execute(sa.select(commands.c.body).distinct()).all():
        told = json.loads(body)
        person = told.get('person') if isinstance(told, dict) else None
        if isinstance(person, str) and person != _normal(person):
            after = json.dumps(told | {'person': _normal(person)})
            connection.execute(commands.update().where(commands.c.body == body).values(body=after))
