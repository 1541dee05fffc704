"""The tables. Every rule that can be a constraint is one. A test checks that `migrations/` creates the same tables."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    DateTime,
    Dialect,
    Double,
    Enum,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
    select,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, column_property, composite, mapped_column

from registry.values import Artifact, Terms
from registry.vocabulary import Basis, Compare, Sampling, Status, Strategy, Task

REVISION = "0003"  # the version that a registry must have: the newest file in migrations/versions
VERSION_TABLE = "frontrunner_version"

NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}

Id = BigInteger().with_variant(Integer, "sqlite")  # SQLite numbers rows automatically only in an INTEGER key
Json = JSON(none_as_null=True)


class UtcDateTime(TypeDecorator[datetime]):
    """An aware timestamp in UTC; SQLite does not store time zones."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        return value and value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        return value and (value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC))


def now() -> datetime:
    return datetime.now(UTC)


def _closed(kind: type[StrEnum], name: str) -> Enum:
    return Enum(
        kind,
        name=name,
        native_enum=False,
        create_constraint=True,
        length=20,
        values_callable=lambda members: [member.value for member in members],
    )


def _where(condition: str) -> dict[str, Any]:
    """Return the arguments that limit an index to the rows of a condition."""
    return {f"{dialect}_where": text(condition) for dialect in ("sqlite", "postgresql")}


def _artifact(uri: str | None, sha256: str | None, size: int | None) -> Artifact | None:
    """Return the artifact in three columns; None if it was never saved or its file is gone."""
    return None if uri is None or sha256 is None or size is None else Artifact(uri, sha256, size)


class Base(DeclarativeBase):
    metadata = MetaData(naming_convention=NAMES)


class Project(Base):
    __tablename__ = "projects"
    __table_args__ = (
        CheckConstraint("length(name) BETWEEN 1 AND 200", name="name_length"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    name: Mapped[str] = mapped_column(String(200), unique=True)
    task: Mapped[Task] = mapped_column(_closed(Task, "task"))
    # Counts attempted promotions; each updates it first, so they take turns.
    revision: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    mirrored_seq: Mapped[int | None] = mapped_column(
        BigInteger
    )  # the newest deployment that MLflow's alias was set for
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)


class Snapshot(Base):
    """Frozen rows in one Parquet file: the training rows first, then the test rows."""

    __tablename__ = "snapshots"
    __table_args__ = (
        UniqueConstraint("project_id", "id"),  # models refer to it by (project_id, snapshot_id)
        UniqueConstraint("request_key"),  # a retried training keeps the rows that its first attempt froze
        CheckConstraint("train_rows > 0 AND test_rows > 0", name="rows"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id"))
    relation_name: Mapped[str] = mapped_column(Text)
    y_column_names: Mapped[list[str]] = mapped_column(Json)
    test_size: Mapped[float] = mapped_column(Double)  # as requested: a share below 1, else a count of rows
    test_sampling: Mapped[Sampling] = mapped_column(_closed(Sampling, "test_sampling"))
    seed: Mapped[int] = mapped_column(BigInteger)
    train_rows: Mapped[int] = mapped_column(BigInteger)
    test_rows: Mapped[int] = mapped_column(BigInteger)
    columns: Mapped[list[dict[str, Any]]] = mapped_column(Json)  # name and type of each, in order
    preprocess: Mapped[dict[str, Any]] = mapped_column(Json)  # {column: {option: value}}, as requested
    statistics: Mapped[list[dict[str, Any]]] = mapped_column(Json, deferred=True)  # for each column; may be megabytes
    golden_rows: Mapped[list[list[Any]]] = mapped_column(
        Json, deferred=True
    )  # features of some test rows, in the order of training
    artifact_uri: Mapped[str] = mapped_column(Text)
    artifact_sha256: Mapped[str] = mapped_column(String(64))
    artifact_bytes: Mapped[int] = mapped_column(BigInteger)
    hashes_uri: Mapped[str] = mapped_column(Text)  # 64 bits for each row, in the order of the file
    hashes_sha256: Mapped[str] = mapped_column(String(64))
    hashes_bytes: Mapped[int] = mapped_column(BigInteger)
    artifact: Mapped[Artifact] = composite(Artifact, "artifact_uri", "artifact_sha256", "artifact_bytes")
    hashes: Mapped[Artifact] = composite(Artifact, "hashes_uri", "hashes_sha256", "hashes_bytes")
    request_key: Mapped[str] = mapped_column(String(200))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)
    pruned_at: Mapped[datetime | None] = mapped_column(UtcDateTime)  # its files may be gone after this time


class Quarantine(Base):
    """A model that no strategy may choose until it is released; only a release changes this row."""

    __tablename__ = "quarantines"
    __table_args__ = (
        ForeignKeyConstraint(["project_id", "model_id"], ["models.project_id", "models.id"]),
        CheckConstraint("(released_at IS NULL) = (released_by IS NULL)", name="released_is_complete"),
        Index("ix_quarantines_now", "model_id", unique=True, **_where("released_at IS NULL")),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id"))
    model_id: Mapped[int] = mapped_column(Id)
    reason: Mapped[str] = mapped_column(Text)
    placed_by: Mapped[str] = mapped_column(Text)
    placed_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)
    released_by: Mapped[str | None] = mapped_column(Text)
    released_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class Model(Base):
    __tablename__ = "models"
    __table_args__ = (
        UniqueConstraint("project_id", "id"),  # deployments refer to it by (project_id, model_id)
        UniqueConstraint("request_key"),  # a retried candidate is the same candidate
        ForeignKeyConstraint(["project_id", "snapshot_id"], ["snapshots.project_id", "snapshots.id"]),
        # PostgreSQL sorts NaN above every number, so a NaN would win: only finite scores are allowed.
        CheckConstraint("score BETWEEN -1e308 AND 1e308", name="score_finite"),
        CheckConstraint(
            "status <> 'trained' OR (score IS NOT NULL AND artifact_uri IS NOT NULL"
            " AND artifact_sha256 IS NOT NULL AND artifact_bytes IS NOT NULL)",
            name="trained_is_complete",
        ),
        CheckConstraint("status IN ('trained', 'pruned') OR score IS NULL", name="only_trained_has_score"),
        CheckConstraint("status <> 'failed' OR reason IS NOT NULL", name="failed_has_reason"),
        CheckConstraint("status <> 'cancelled' OR reason IS NOT NULL", name="cancelled_has_reason"),
        Index("ix_models_best", "project_id", "score", "id", **_where("status = 'trained'")),
        Index("ix_models_best_of_algorithm", "project_id", "algorithm", "score", "id", **_where("status = 'trained'")),
        Index("ix_models_newest", "project_id", "id", **_where("status = 'trained'")),
        Index("ix_models_newest_of_algorithm", "project_id", "algorithm", "id", **_where("status = 'trained'")),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id"))
    snapshot_id: Mapped[int] = mapped_column(Id)
    algorithm: Mapped[str] = mapped_column(String(64))
    hyperparams: Mapped[dict[str, Any]] = mapped_column(Json)
    preprocessing: Mapped[dict[str, Any]] = mapped_column(Json)  # {column: {option: value}}, as applied
    status: Mapped[Status] = mapped_column(_closed(Status, "status"))
    score: Mapped[float | None] = mapped_column(Double)  # the key metric of the project's task; higher is better
    metrics: Mapped[dict[str, float]] = mapped_column(Json)
    reason: Mapped[str | None] = mapped_column(Text)  # why it failed or was cancelled
    golden: Mapped[list[Any] | None] = mapped_column(Json, deferred=True)  # its answers for the golden rows
    artifact_uri: Mapped[str | None] = mapped_column(Text)
    artifact_sha256: Mapped[str | None] = mapped_column(String(64))
    artifact_bytes: Mapped[int | None] = mapped_column(BigInteger)
    artifact: Mapped[Artifact | None] = composite(_artifact, "artifact_uri", "artifact_sha256", "artifact_bytes")
    mlflow_run_id: Mapped[str | None] = mapped_column(String(64))
    mlflow_model_id: Mapped[str | None] = mapped_column(String(64))
    request_key: Mapped[str] = mapped_column(String(200))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    heartbeat_at: Mapped[datetime | None] = mapped_column(
        UtcDateTime
    )  # the last time its process was known to be alive

    # The reason why it is in quarantine; None if it is not.
    quarantine: Mapped[str | None] = column_property(
        select(Quarantine.reason)
        .where(Quarantine.model_id == id, Quarantine.released_at.is_(None))  # noqa: A003  (this class's column)
        .correlate_except(Quarantine)
        .scalar_subquery()
    )


class Deployment(Base):
    """A deployment. Triggers refuse to change or delete one; the highest `seq` of a project is live."""

    __tablename__ = "deployments"
    __table_args__ = (
        UniqueConstraint("project_id", "seq"),
        UniqueConstraint("request_key"),  # a retried deploy is the same deploy
        ForeignKeyConstraint(["project_id", "model_id"], ["models.project_id", "models.id"]),
        CheckConstraint("seq >= 1", name="seq_from_one"),
        CheckConstraint("NOT forced OR reason IS NOT NULL", name="forced_has_reason"),
        Index("ix_deployments_of_model", "project_id", "model_id", "seq"),
        Index("ix_deployments_of_algorithm", "project_id", "algorithm", "seq"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id"))
    seq: Mapped[int] = mapped_column(BigInteger)
    model_id: Mapped[int] = mapped_column(Id)
    algorithm: Mapped[str] = mapped_column(String(64))  # a copy of the model's, which never changes, for the index
    strategy: Mapped[Strategy] = mapped_column(_closed(Strategy, "strategy"))
    forced: Mapped[bool] = mapped_column(Boolean, default=False)  # its file was not proven before the deploy
    reason: Mapped[str | None] = mapped_column(Text)  # given by the person who deployed it
    deployed_by: Mapped[str] = mapped_column(Text)
    request_key: Mapped[str] = mapped_column(String(200))
    deployed_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)


class Decision(Base):
    """The receipt of an automatic deploy, accepted or rejected. Triggers refuse to change or delete one."""

    __tablename__ = "decisions"
    __table_args__ = (
        UniqueConstraint("request_key"),  # a retried attempt is the same attempt
        ForeignKeyConstraint(["project_id", "challenger_id"], ["models.project_id", "models.id"]),
        ForeignKeyConstraint(["project_id", "live_model_id"], ["models.project_id", "models.id"]),
        Index("ix_decisions_of_project", "project_id", "id"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id"))
    challenger_id: Mapped[int] = mapped_column(Id)
    live_model_id: Mapped[int | None] = mapped_column(Id)  # the live model before the decision
    live_quarantined: Mapped[bool] = mapped_column(Boolean)
    candidate_ids: Mapped[list[int]] = mapped_column(Json)  # the challenger was the best of these
    basis: Mapped[Basis] = mapped_column(_closed(Basis, "basis"))
    challenger_score: Mapped[float | None] = mapped_column(Double)  # this and the next two are on the compared rows
    live_score: Mapped[float | None] = mapped_column(Double)
    baseline_score: Mapped[float | None] = mapped_column(Double)
    rows_compared: Mapped[int | None] = mapped_column(BigInteger)
    rows_excluded: Mapped[int | None] = mapped_column(BigInteger)
    interval_low: Mapped[float | None] = mapped_column(Double)  # of the challenger's score minus the live score
    interval_high: Mapped[float | None] = mapped_column(Double)
    compare: Mapped[Compare] = mapped_column(_closed(Compare, "compare"))
    min_improvement: Mapped[float] = mapped_column(Double)
    confidence: Mapped[float | None] = mapped_column(Double)
    must_beat_baseline: Mapped[bool] = mapped_column(Boolean)
    min_rows: Mapped[int] = mapped_column(BigInteger)
    terms: Mapped[Terms] = composite("compare", "min_improvement", "confidence", "must_beat_baseline", "min_rows")
    deployed: Mapped[bool] = mapped_column(Boolean)
    reason: Mapped[str] = mapped_column(Text)
    decided_by: Mapped[str] = mapped_column(Text)
    code_version: Mapped[str] = mapped_column(Text)
    request_key: Mapped[str] = mapped_column(String(250))
    decided_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)

    @property
    def interval(self) -> tuple[float, float] | None:
        low, high = self.interval_low, self.interval_high
        return None if low is None or high is None else (low, high)

    @interval.setter
    def interval(self, ends: tuple[float, float] | None) -> None:
        self.interval_low, self.interval_high = ends or (None, None)
