"""Projects, snapshots, models, deployments, decisions, quarantines; the views an analyst reads; the triggers that keep
the history.

A migration is a record of what was: it imports nothing from the application.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")
TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "projects",
        sa.Column("id", ID, nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("task", sa.String(20), nullable=False),
        sa.Column("revision", sa.BigInteger, server_default="0", nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_projects"),
        sa.UniqueConstraint("name", name="uq_projects_name"),
        sa.CheckConstraint("length(name) BETWEEN 1 AND 200", name="ck_projects_name_length"),
        sa.CheckConstraint("task IN ('regression', 'classification')", name="ck_projects_task"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "snapshots",
        sa.Column("id", ID, nullable=False),
        sa.Column("project_id", ID, nullable=False),
        sa.Column("relation_name", sa.Text, nullable=False),
        sa.Column("y_column_names", sa.JSON, nullable=False),
        sa.Column("test_size", sa.Double, nullable=False),
        sa.Column("test_sampling", sa.String(20), nullable=False),
        sa.Column("seed", sa.BigInteger, nullable=False),
        sa.Column("train_rows", sa.BigInteger, nullable=False),
        sa.Column("test_rows", sa.BigInteger, nullable=False),
        sa.Column("columns", sa.JSON, nullable=False),
        sa.Column("preprocess", sa.JSON, nullable=False),
        sa.Column("statistics", sa.JSON, nullable=False),
        sa.Column("golden_rows", sa.JSON, nullable=False),
        sa.Column("artifact_uri", sa.Text, nullable=False),
        sa.Column("artifact_sha256", sa.String(64), nullable=False),
        sa.Column("artifact_bytes", sa.BigInteger, nullable=False),
        sa.Column("hashes_uri", sa.Text, nullable=False),
        sa.Column("hashes_sha256", sa.String(64), nullable=False),
        sa.Column("hashes_bytes", sa.BigInteger, nullable=False),
        sa.Column("request_key", sa.String(200), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_snapshots"),
        sa.UniqueConstraint("project_id", "id", name="uq_snapshots_project_id_id"),
        sa.UniqueConstraint("request_key", name="uq_snapshots_request_key"),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name="fk_snapshots_project_id"),
        sa.CheckConstraint("train_rows > 0 AND test_rows > 0", name="ck_snapshots_rows"),
        sa.CheckConstraint("test_sampling IN ('random', 'stratified', 'last')", name="ck_snapshots_test_sampling"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "models",
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
        sqlite_autoincrement=True,
    )
    for name, columns in {
        "ix_models_best": ["project_id", "score", "id"],
        "ix_models_best_of_algorithm": ["project_id", "algorithm", "score", "id"],
        "ix_models_newest": ["project_id", "id"],
        "ix_models_newest_of_algorithm": ["project_id", "algorithm", "id"],
    }.items():
        trained = sa.text("status = 'trained'")
        op.create_index(name, "models", columns, sqlite_where=trained, postgresql_where=trained)
    op.create_table(
        "deployments",
        sa.Column("id", ID, nullable=False),
        sa.Column("project_id", ID, nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("model_id", ID, nullable=False),
        sa.Column("strategy", sa.String(20), nullable=False),
        sa.Column("forced", sa.Boolean, nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("deployed_by", sa.Text, nullable=False),
        sa.Column("request_key", sa.String(200), nullable=False),
        sa.Column("deployed_at", TIME, nullable=False),
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
        sqlite_autoincrement=True,
    )
    op.create_index("ix_deployments_of_model", "deployments", ["project_id", "model_id", "seq"])
    op.create_table(
        "quarantines",
        sa.Column("id", ID, nullable=False),
        sa.Column("project_id", ID, nullable=False),
        sa.Column("model_id", ID, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("placed_by", sa.Text, nullable=False),
        sa.Column("placed_at", TIME, nullable=False),
        sa.Column("released_by", sa.Text),
        sa.Column("released_at", TIME),
        sa.PrimaryKeyConstraint("id", name="pk_quarantines"),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name="fk_quarantines_project_id"),
        sa.ForeignKeyConstraint(
            ["project_id", "model_id"],
            ["models.project_id", "models.id"],
            name="fk_quarantines_project_id_model_id",
        ),
        sa.CheckConstraint("(released_at IS NULL) = (released_by IS NULL)", name="ck_quarantines_released_is_complete"),
        sqlite_autoincrement=True,
    )
    held = sa.text("released_at IS NULL")
    op.create_index(
        "ix_quarantines_now", "quarantines", ["model_id"], unique=True, sqlite_where=held, postgresql_where=held
    )
    op.create_table(
        "decisions",
        sa.Column("id", ID, nullable=False),
        sa.Column("project_id", ID, nullable=False),
        sa.Column("challenger_id", ID, nullable=False),
        sa.Column("live_model_id", ID),
        sa.Column("live_quarantined", sa.Boolean, nullable=False),
        sa.Column("candidate_ids", sa.JSON, nullable=False),
        sa.Column("basis", sa.String(20), nullable=False),
        sa.Column("challenger_score", sa.Double),
        sa.Column("live_score", sa.Double),
        sa.Column("baseline_score", sa.Double),
        sa.Column("rows_compared", sa.BigInteger),
        sa.Column("rows_excluded", sa.BigInteger),
        sa.Column("interval_low", sa.Double),
        sa.Column("interval_high", sa.Double),
        sa.Column("compare", sa.String(20), nullable=False),
        sa.Column("min_improvement", sa.Double, nullable=False),
        sa.Column("confidence", sa.Double),
        sa.Column("must_beat_baseline", sa.Boolean, nullable=False),
        sa.Column("min_rows", sa.BigInteger, nullable=False),
        sa.Column("deployed", sa.Boolean, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("decided_by", sa.Text, nullable=False),
        sa.Column("code_version", sa.Text, nullable=False),
        sa.Column("request_key", sa.String(250), nullable=False),
        sa.Column("decided_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_decisions"),
        sa.UniqueConstraint("request_key", name="uq_decisions_request_key"),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name="fk_decisions_project_id"),
        sa.ForeignKeyConstraint(
            ["project_id", "challenger_id"],
            ["models.project_id", "models.id"],
            name="fk_decisions_project_id_challenger_id",
        ),
        sa.ForeignKeyConstraint(
            ["project_id", "live_model_id"],
            ["models.project_id", "models.id"],
            name="fk_decisions_project_id_live_model_id",
        ),
        sa.CheckConstraint(
            "basis IN ('nothing_live', 'quarantined', 'recorded', 'same_rows', 'not_comparable', 'unreachable',"
            " 'unproven', 'held')",
            name="ck_decisions_basis",
        ),
        sa.CheckConstraint("compare IN ('same_rows', 'recorded')", name="ck_decisions_compare"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_decisions_of_project", "decisions", ["project_id", "id"])
    for statement in [*VIEWS, *APPEND_ONLY[op.get_bind().dialect.name]]:
        op.execute(statement)


NEWEST = "SELECT project_id, max(seq) AS seq FROM deployments GROUP BY project_id"

VIEWS = [
    """
    CREATE VIEW overview AS
    SELECT p.name, d.seq, d.deployed_at, d.strategy, p.task, m.algorithm, m.score,
           s.relation_name, s.y_column_names, s.test_sampling, s.test_size
    FROM deployments d
    JOIN projects p ON p.id = d.project_id
    JOIN models m ON m.id = d.model_id
    JOIN snapshots s ON s.id = m.snapshot_id
    """,
    f"""
    CREATE VIEW trained_models AS
    SELECT m.id, p.name, p.task, m.algorithm, m.score, m.created_at, s.test_sampling, s.test_size,
           d.model_id IS NOT NULL AS deployed, q.reason AS quarantine
    FROM models m
    JOIN projects p ON p.id = m.project_id
    JOIN snapshots s ON s.id = m.snapshot_id
    LEFT JOIN ({NEWEST}) newest ON newest.project_id = m.project_id
    LEFT JOIN deployments d ON d.project_id = newest.project_id AND d.seq = newest.seq AND d.model_id = m.id
    LEFT JOIN quarantines q ON q.model_id = m.id AND q.released_at IS NULL
    WHERE m.status = 'trained'
    """,
    f"""
    CREATE VIEW deployed_models AS
    SELECT m.id, p.name, p.task, m.algorithm, m.score, d.deployed_at, q.reason AS quarantine
    FROM ({NEWEST}) newest
    JOIN deployments d ON d.project_id = newest.project_id AND d.seq = newest.seq
    JOIN projects p ON p.id = d.project_id
    JOIN models m ON m.id = d.model_id
    LEFT JOIN quarantines q ON q.model_id = m.id AND q.released_at IS NULL
    """,
]

# What may never change: (table, event, what is said).
KEPT = [
    *[("deployments", event, "the deployment history is append-only") for event in ("UPDATE", "DELETE")],
    *[("decisions", event, "the decisions are append-only") for event in ("UPDATE", "DELETE")],
    ("quarantines", "DELETE", "a quarantine is released, not deleted"),
    (
        "quarantines",
        "UPDATE OF id, project_id, model_id, reason, placed_by, placed_at",
        "a quarantine can only be released",
    ),
]

APPEND_ONLY = {
    "sqlite": [
        f"""
        CREATE TRIGGER {table}_no_{event.split()[0].lower()} BEFORE {event} ON {table}
        BEGIN SELECT RAISE(ABORT, '{said}'); END
        """
        for table, event, said in KEPT
    ],
    "postgresql": [
        """
        CREATE FUNCTION frontrunner_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
          RAISE EXCEPTION '%', TG_ARGV[0] USING ERRCODE = 'restrict_violation';
        END $$
        """,
        *[
            f"""
            CREATE TRIGGER {table}_no_{event.split()[0].lower()} BEFORE {event} ON {table}
            FOR EACH STATEMENT EXECUTE FUNCTION frontrunner_append_only('{said}')
            """
            for table, event, said in [
                *KEPT,
                *[
                    (table, "TRUNCATE", f"{table} are append-only")
                    for table in ("deployments", "decisions", "quarantines")
                ],
            ]
        ],
    ],
}
