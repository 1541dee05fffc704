"""A deployment names its model's algorithm, which never changes: a rollback to one finds it by an index, however long
ago it was live.

SQLite makes the table anew, because a column that may not be empty cannot be added to rows that are there.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")
FILLED = """
    UPDATE deployments SET algorithm = (SELECT algorithm FROM models WHERE models.id = deployments.model_id)
"""


def upgrade() -> None:
    connection = op.get_bind()
    op.add_column("deployments", sa.Column("algorithm", sa.String(64)))
    if connection.dialect.name == "sqlite":
        guards = _without_guards(connection)
        op.execute(FILLED)
        with op.batch_alter_table("deployments", copy_from=_deployments()) as deployments:
            deployments.alter_column("algorithm", nullable=False)
        for statement in guards:
            connection.exec_driver_sql(statement)
    else:
        op.execute("ALTER TABLE deployments DISABLE TRIGGER deployments_no_update")
        op.execute(FILLED)
        op.execute("ALTER TABLE deployments ENABLE TRIGGER deployments_no_update")
        op.alter_column("deployments", "algorithm", nullable=False)
    op.create_index("ix_deployments_of_algorithm", "deployments", ["project_id", "algorithm", "seq"])


def downgrade() -> None:
    raise NotImplementedError("restore a backup from before the upgrade instead")


def _without_guards(connection: sa.Connection) -> list[str]:
    """Drops views, triggers and other people's indexes of the table, and returns what makes them again."""
    guards = connection.exec_driver_sql(
        "SELECT type, name, sql FROM sqlite_master WHERE type IN ('view', 'trigger') OR type = 'index' AND"
        " tbl_name = 'deployments' AND sql IS NOT NULL AND name <> 'ix_deployments_of_model' ORDER BY rowid"
    ).all()
    for kind, name, _ in sorted(guards, key=lambda guard: guard[0] == "view"):  # a view takes its triggers along
        quoted = name.replace('"', '""')
        connection.exec_driver_sql(f'DROP {kind} "{quoted}"')
    return [sql for _, _, sql in guards]


def _deployments() -> sa.Table:
    """The table as 0002 left it, with the column."""
    return sa.Table(
        "deployments",
        sa.MetaData(),
        sa.Column("id", ID, nullable=False),
        sa.Column("project_id", ID, nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("model_id", ID, nullable=False),
        sa.Column("strategy", sa.String(20), nullable=False),
        sa.Column("forced", sa.Boolean, nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("deployed_by", sa.Text, nullable=False),
        sa.Column("request_key", sa.String(200), nullable=False),
        sa.Column("deployed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("algorithm", sa.String(64)),
        sa.PrimaryKeyConstraint("id", name="pk_deployments"),
        sa.UniqueConstraint("project_id", "seq", name="uq_deployments_project_id_seq"),
        sa.UniqueConstraint("request_key", name="uq_deployments_request_key"),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name="fk_deployments_project_id"),
        sa.ForeignKeyConstraint(
            ["project_id", "model_id"],
            ["models.project_id", "models.id"],
            name="fk_deployments_project_id_model_id",
        ),
        sa.CheckConstraint("seq >= 1", name="ck_deployments_seq_from_one"),
        sa.CheckConstraint("NOT forced OR reason IS NOT NULL", name="ck_deployments_forced_has_reason"),
        sa.CheckConstraint(
            "strategy IN ('best_score', 'most_recent', 'rollback', 'specific', 'new_score')",
            name="ck_deployments_strategy",
        ),
        sa.Index("ix_deployments_of_model", "project_id", "model_id", "seq"),
        sqlite_autoincrement=True,
    )
