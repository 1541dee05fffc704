"""A registry of version 0001 with rows in every table, created by that version's migration alone."""

import json
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, event, text

import registry

AT = "2026-01-02 03:04:05.000000"

ROWS = {
    "projects": [{"id": 1, "name": "churn", "task": "classification", "revision": 3, "created_at": AT}],
    "snapshots": [
        {
            "id": 1, "project_id": 1, "relation_name": "sklearn:iris", "y_column_names": ["target"], "test_size": 0.25,
            "test_sampling": "stratified", "seed": 0, "train_rows": 112, "test_rows": 38,
            "columns": [{"name": "x", "type": "double"}, {"name": "target", "type": "int64"}], "preprocess": {},
            "statistics": [], "golden_rows": [[1.0]], "artifact_uri": "file:///nowhere/rows.parquet",
            "artifact_sha256": "0" * 64, "artifact_bytes": 1, "hashes_uri": "file:///nowhere/rows.hashes",
            "hashes_sha256": "0" * 64, "hashes_bytes": 1, "request_key": "first", "created_at": AT,
        }
    ],
    "models": [
        {
            "id": number, "project_id": 1, "snapshot_id": 1, "algorithm": "linear", "hyperparams": {"C": 10},
            "preprocessing": {}, "status": status, "score": score, "metrics": {"f1": score} if score else {},
            "reason": reason, "golden": [0] if score else None, "artifact_uri": uri,
            "artifact_sha256": uri and "0" * 64, "artifact_bytes": uri and 1, "mlflow_run_id": "run",
            "mlflow_model_id": "m-1", "request_key": f"first:{number}", "created_at": AT, "finished_at": None,
        }
        for number, status, score, reason, uri in [
            (1, "trained", 0.7, None, "file:///nowhere/model.skops"),
            (2, "trained", 0.8, None, "file:///nowhere/model.skops"),
            (3, "failed", None, "it does not converge", None),
            (4, "running", None, None, None),
        ]
    ],
    "deployments": [
        {
            "id": seq, "project_id": 1, "seq": seq, "model_id": seq, "strategy": "new_score", "forced": False,
            "reason": None, "deployed_by": "somebody", "request_key": f"deploy-{seq}", "deployed_at": AT,
        }
        for seq in (1, 2)
    ],
    "quarantines": [
        {
            "id": 1, "project_id": 1, "model_id": 1, "reason": "it was odd", "placed_by": "somebody", "placed_at": AT,
            "released_by": "somebody", "released_at": AT,
        }
    ],
    "decisions": [
        {
            "id": 1, "project_id": 1, "challenger_id": 2, "live_model_id": 1, "live_quarantined": False,
            "candidate_ids": [2], "basis": "same_rows", "challenger_score": 0.8, "live_score": 0.7,
            "compare": "same_rows", "min_improvement": 0.0, "must_beat_baseline": False, "min_rows": 50,
            "deployed": True, "reason": "it is better", "decided_by": "somebody", "code_version": "0",
            "request_key": "first:2", "decided_at": AT,
        }
    ],
}  # fmt: skip


def golden_registry(url: str) -> None:
    """Create the registry in an empty database."""
    engine = create_engine(url)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA foreign_keys=ON"))
    config = Config()
    config.set_main_option("script_location", str(Path(registry.__file__).parent / "migrations"))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
    with engine.begin() as connection:
        for table, rows in ROWS.items():
            for row in rows:
                values = {name: json.dumps(v) if isinstance(v, (dict, list)) else v for name, v in row.items()}
                names, places = ", ".join(row), ", ".join(f":{name}" for name in row)
                connection.execute(text(f"INSERT INTO {table} ({names}) VALUES ({places})"), values)
        if engine.dialect.name == "postgresql":  # the rows above have explicit ids
            for table in ROWS:
                connection.execute(text(f"SELECT setval('{table}_id_seq', (SELECT max(id) FROM {table}))"))
    engine.dispose()
