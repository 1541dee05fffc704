"""Convert rows of the registry to the frozen values that leave it, by field name."""

from dataclasses import fields
from typing import Any, TypeVar

from registry.schema import Decision, Deployment, Model, Project, Snapshot
from registry.values import (
    DecisionRecord,
    DeploymentRecord,
    DeployResult,
    Evidence,
    ModelRecord,
    SnapshotRecord,
)

Value = TypeVar("Value")


def record(kind: type[Value], row: Any, **more: Any) -> Value:
    """Return a value whose fields are the row's attributes of the same names, except those given in `more`."""
    return kind(**{field.name: getattr(row, field.name) for field in fields(kind) if field.name not in more} | more)  # type: ignore[arg-type]


def snapshot_record(row: Snapshot) -> SnapshotRecord:
    return record(SnapshotRecord, row, y_column_names=tuple(row.y_column_names), columns=tuple(row.columns))


def model_record(row: Model) -> ModelRecord:
    return record(ModelRecord, row)


def deployment_record(row: Deployment, model: Model) -> DeploymentRecord:
    return record(DeploymentRecord, row, algorithm_name=row.algorithm, score=model.score, quarantine=model.quarantine)


def deploy_result(row: Deployment, project: Project, model: Model, previous: Model | None) -> DeployResult:
    """Return the result of the deploy that added this row; `previous` is the model that was live before it."""
    return record(
        DeployResult,
        row,
        project_name=project.name,
        algorithm_name=row.algorithm,
        score=model.score,
        previous_model_id=previous.id if previous else None,
        previous_score=previous.score if previous else None,
        changed=True,
        planned=False,
        warning=None,
    )


def decision_record(row: Decision, project_name: str, algorithm_name: str) -> DecisionRecord:
    return record(
        DecisionRecord,
        row,
        project_name=project_name,
        algorithm_name=algorithm_name,
        evidence=record(Evidence, row, candidate_ids=tuple(row.candidate_ids), obstacle=""),
        seed=int(row.request_key.rpartition(":")[2]),  # an import may have changed challenger_id since
    )
