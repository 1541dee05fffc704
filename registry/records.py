"""Rows of the registry to the frozen values that leave it."""

from registry.schema import Decision, Model, Project, Snapshot
from registry.values import Artifact, DecisionRecord, Evidence, ModelRecord, ProjectRecord, SnapshotRecord, Terms


def project_record(row: Project) -> ProjectRecord:
    return ProjectRecord(row.id, row.name, row.task, row.created_at)


def snapshot_record(row: Snapshot) -> SnapshotRecord:
    return SnapshotRecord(
        row.id,
        row.project_id,
        row.relation_name,
        tuple(row.y_column_names),
        row.test_size,
        row.test_sampling,
        row.seed,
        row.train_rows,
        row.test_rows,
        tuple(row.columns),
        row.preprocess,
        Artifact(row.artifact_uri, row.artifact_sha256, row.artifact_bytes),
        Artifact(row.hashes_uri, row.hashes_sha256, row.hashes_bytes),
        row.pruned_at,
    )


def model_record(row: Model) -> ModelRecord:
    return ModelRecord(
        row.id,
        row.project_id,
        row.snapshot_id,
        row.algorithm,
        row.hyperparams,
        row.preprocessing,
        row.status,
        row.score,
        row.metrics,
        row.reason,
        artifact_of(row),
        row.mlflow_run_id,
        row.mlflow_model_id,
        row.created_at,
        row.quarantine,
        row.finished_at,
    )


def decision_record(row: Decision, project_name: str, algorithm_name: str) -> DecisionRecord:
    interval = None if row.interval_low is None or row.interval_high is None else (row.interval_low, row.interval_high)
    return DecisionRecord(
        row.id,
        project_name,
        row.challenger_id,
        algorithm_name,
        Terms(row.compare, row.min_improvement, row.confidence, row.must_beat_baseline, row.min_rows),
        Evidence(
            row.basis,
            row.live_model_id,
            tuple(row.candidate_ids),
            row.challenger_score,
            row.live_score,
            row.baseline_score,
            row.rows_compared,
            row.rows_excluded,
            interval,
            row.live_quarantined,
        ),
        row.deployed,
        row.reason,
        row.decided_by,
        row.code_version,
        row.decided_at,
        int(row.request_key.rpartition(":")[2]),  # another id than today's where the project was imported
    )


def score_of(row: Model) -> float:
    """The score of a deployed model: it was trained, and the table lets no trained model be without one."""
    assert row.score is not None
    return row.score


def artifact_of(row: Model) -> Artifact | None:
    if row.artifact_uri is None or row.artifact_sha256 is None or row.artifact_bytes is None:
        return None
    return Artifact(row.artifact_uri, row.artifact_sha256, row.artifact_bytes)
