"""tickets and holds

Revision: 0005, after 0004
"""

from __future__ import annotations

import sqlalchemy as sa
import sqlmodel
from alembic import op

revision = '0005'
down_revision = '0004'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('socket_tickets',
    sa.Column('digest', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
    sa.Column('key', sa.Integer(), nullable=True),
    sa.Column('made', sa.Float(), nullable=False),
    sa.Column('session', sqlmodel.sql.sqltypes.AutoString(), nullable=True),
    sa.Column('person', sqlmodel.sql.sqltypes.AutoString(), nullable=True),
    sa.Column('until', sa.Float(), nullable=False),
    sa.PrimaryKeyConstraint('digest', name=op.f('pk_socket_tickets'))
    )
    with op.batch_alter_table('socket_tickets', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_socket_tickets_person'), ['person'], unique=False)
        batch_op.create_index(batch_op.f('ix_socket_tickets_until'), ['until'], unique=False)

    op.create_table('holds',
    sa.Column('id', sa.Integer(), nullable=False),
    sa.Column('key', sa.Integer(), nullable=False),
    sa.Column('amount', sa.Float(), nullable=False),
    sa.Column('until', sa.Float(), nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_holds'))
    )
    with op.batch_alter_table('holds', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_holds_key'), ['key'], unique=False)


def downgrade() -> None:
    op.drop_table('holds')
    op.drop_table('socket_tickets')
