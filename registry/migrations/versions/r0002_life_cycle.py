"""What crashes and age leave behind: cancelled and pruned models, heartbeats, what MLflow is known to show.

On SQLite a constraint only changes with its table, which is made anew: the session has foreign keys off meanwhile.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")
TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column("projects", sa.Column("mirrored_seq", sa.BigInteger))
    op.add_column("snapshots", sa.Column("pruned_at", TIME))
    connection = op.get_bind()
    views = _without_views(connection) if connection.dialect.name == "sqlite" else []
    with op.batch_alter_table("models", copy_from=_models()) as models:
        models.add_column(sa.Column("heartbeat_at", TIME))
        models.drop_constraint("ck_models_status", type_="check")
        models.create_check_constraint(
            "ck_models_status", "status IN ('running', 'trained', 'failed', 'cancelled', 'pruned')"
        )
        models.drop_constraint("ck_models_only_trained_has_score", type_="check")
        models.create_check_constraint(
            "ck_models_only_trained_has_score", "status IN ('trained', 'pruned') OR score IS NULL"
        )
        models.create_check_constraint("ck_models_cancelled_has_reason", "status <> 'cancelled' OR reason IS NOT NULL")
    for view in views:
        op.execute(view)


def downgrade() -> None:
    raise NotImplementedError(
        "0001 knows neither cancelled nor pruned models: restore a backup from before the upgrade instead"
    )


def _without_views(connection: sa.Connection) -> list[str]:
    """Drops the views, which SQLite would refuse a renamed table for, and returns what makes them again."""
    views = connection.exec_driver_sql("SELECT name, sql FROM sqlite_master WHERE type = 'view' ORDER BY rowid")
    made = [(name, sql) for name, sql in views]
    for name, _ in made:
        op.execute(f"DROP VIEW {name}")
    return [sql for _, sql in made]


def _models() -> sa.Table:
    """The table as 0001 left it."""
    trained = sa.text("status = 'trained'")
    indexes = {
        "ix_models_best": ["project_id", "score", "id"],
        "ix_models_best_of_algorithm": ["project_id", "algorithm", "score", "id"],
        "ix_models_newest": ["project_id", "id"],
        "ix_models_newest_of_algorithm": ["project_id", "algorithm", "id"],
    }
    return sa.Table(
        "models",
        sa.MetaData(),
        sa.Column("id", ID, nullable=False),
        sa.Column("project_id", ID, nullable=False),
        sa.Column("snapshot_id", ID, nullable=False),
        sa.Column("algorithm", sa.String(64), nullable=False),
        sa.Column("hyperparams", sa.JSON, nullable=False),
        sa.Column("preprocessing", sa.JSON, nullable=False),
        sa.Column("status", sa.String(20), nullable=False),
        sa.Column("score", sa.Double),
        sa.Column("metrics", sa.JSON, nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("golden", sa.JSON),
        sa.Column("artifact_uri", sa.Text),
        sa.Column("artifact_sha256", sa.String(64)),
        sa.Column("artifact_bytes", sa.BigInteger),
        sa.Column("mlflow_run_id", sa.String(64)),
        sa.Column("mlflow_model_id", sa.String(64)),
        sa.Column("request_key", sa.String(200), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("finished_at", TIME),
        sa.PrimaryKeyConstraint("id", name="pk_models"),
        sa.UniqueConstraint("project_id", "id", name="uq_models_project_id_id"),
        sa.UniqueConstraint("request_key", name="uq_models_request_key"),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name="fk_models_project_id"),
        sa.ForeignKeyConstraint(
            ["project_id", "snapshot_id"],
            ["snapshots.project_id", "snapshots.id"],
            name="fk_models_project_id_snapshot_id",
        ),
        sa.CheckConstraint("status IN ('running', 'trained', 'failed')", name="ck_models_status"),
        sa.CheckConstraint("score BETWEEN -1e308 AND 1e308", name="ck_models_score_finite"),
        sa.CheckConstraint(
            "status <> 'trained' OR (score IS NOT NULL AND artifact_uri IS NOT NULL"
            " AND artifact_sha256 IS NOT NULL AND artifact_bytes IS NOT NULL)",
            name="ck_models_trained_is_complete",
        ),
        sa.CheckConstraint("status = 'trained' OR score IS NULL", name="ck_models_only_trained_has_score"),
        sa.CheckConstraint("status <> 'failed' OR reason IS NOT NULL", name="ck_models_failed_has_reason"),
        *[
            sa.Index(name, *columns, sqlite_where=trained, postgresql_where=trained)
            for name, columns in indexes.items()
        ],
        sqlite_autoincrement=True,
    )
