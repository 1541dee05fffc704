"""The only writes, but for those of a whole project that is imported (`moving.py`). Each function is one transaction
and returns what it left behind.

A promotion's first statement updates the project's `revision`: PostgreSQL then holds that row's lock and SQLite its
write lock, so what is read next (the live model, the newest `seq`) stays true until the deployment is inserted.
"""

from contextlib import suppress
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Select, func, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from registry.choices import DeployRequest, choose, unknown_project
from registry.errors import ChoiceChanged, InvalidInput, Pruned, RegistryConflict, TaskMismatch, UnknownModel
from registry.queries import ID_LIMIT, last_sign
from registry.records import model_record, score_of, snapshot_record
from registry.retention import Keep, prunable_models, prunable_snapshots
from registry.schema import Decision as DecisionRow
from registry.schema import Deployment, Model, Project, Quarantine, Snapshot, now
from registry.session import transaction
from registry.strategies import live
from registry.values import (
    Artifact,
    Decision,
    DeployResult,
    Evidence,
    ModelRecord,
    Pruning,
    SnapshotRecord,
    Terms,
    Verdict,
)
from registry.vocabulary import Sampling, Status, Strategy, Task

Row = TypeVar("Row", Project, Model)

DONE = (Status.TRAINED, Status.PRUNED)  # what such a model is does not change any more
UNDECIDED = (Status.RUNNING, Status.FAILED)  # one whose process was given up for lost may still come to an end


def record_snapshot(
    project_name: str,
    task: Task,
    *,
    relation_name: str,
    y_column_names: list[str],
    test_size: float,
    test_sampling: Sampling,
    seed: int,
    train_rows: int,
    test_rows: int,
    columns: list[dict[str, Any]],
    preprocess: dict[str, dict[str, Any]],
    statistics: list[dict[str, Any]],
    golden_rows: list[list[Any]],
    artifact: Artifact,
    hashes: Artifact,
    request_key: str,
) -> SnapshotRecord:
    """Remembers frozen rows; the project is made with its first snapshot.

    Raises:
        TaskMismatch: the project exists with the other task.
    """
    with transaction(write=True) as session:
        new = Project(name=project_name, task=task)
        project = _made_once(session, select(Project).where(Project.name == project_name), new)
        if project.task != task:
            raise TaskMismatch(project_name, project.task, task)
        snapshot = Snapshot(
            project_id=project.id,
            relation_name=relation_name,
            y_column_names=y_column_names,
            test_size=test_size,
            test_sampling=test_sampling,
            seed=seed,
            train_rows=train_rows,
            test_rows=test_rows,
            columns=columns,
            preprocess=preprocess,
            statistics=statistics,
            golden_rows=golden_rows,
            artifact_uri=artifact.uri,
            artifact_sha256=artifact.sha256,
            artifact_bytes=artifact.bytes,
            hashes_uri=hashes.uri,
            hashes_sha256=hashes.sha256,
            hashes_bytes=hashes.bytes,
            request_key=request_key,
        )
        session.add(snapshot)
        session.flush()
        return snapshot_record(snapshot)


def start_model(
    snapshot: SnapshotRecord, algorithm: str, hyperparams: dict[str, Any], request_key: str, *, again: bool = True
) -> ModelRecord:
    """A candidate that is being trained; the same key again is the same candidate, as it is if it is trained, and begun
    anew if it failed or was cancelled. `again`: False: one that was cancelled stays that, its run is about to end.

    Raises:
        Pruned: the rows of its snapshot are gone.
    """
    with transaction(write=True) as session:
        rows = select(Snapshot.pruned_at).where(Snapshot.id == snapshot.id).with_for_update(read=True)
        if session.scalars(rows).one() is not None:  # the lock keeps a prune from taking them from now on
            raise Pruned(f"the rows of snapshot {snapshot.id} are gone, it was pruned: train on a relation")
        new = Model(
            project_id=snapshot.project_id,
            snapshot_id=snapshot.id,
            algorithm=algorithm,
            hyperparams=hyperparams,
            preprocessing={},
            metrics={},
            request_key=request_key,
            status=Status.RUNNING,
        )
        model = _made_once(session, select(Model).where(Model.request_key == request_key), new)
        if model.status not in DONE and (again or model.status is not Status.CANCELLED):
            model.status, model.reason, model.finished_at = Status.RUNNING, None, None
            model.snapshot_id, model.heartbeat_at = snapshot.id, now()
            session.flush()
        return model_record(model)


def finish_model(
    model_id: int,
    *,
    hyperparams: dict[str, Any],
    preprocessing: dict[str, dict[str, Any]],
    score: float,
    metrics: dict[str, float],
    golden: list[Any],
    artifact: Artifact,
    mlflow_run_id: str,
    mlflow_model_id: str,
) -> ModelRecord:
    """A candidate that was fitted, scored and saved: from now on any strategy may choose it. It is trained once.

    `hyperparams` are those that it was fitted with, a search's winners among them; `golden` is what it answers for the
    snapshot's golden rows.
    """
    with transaction(write=True) as session:
        model = _model(session, model_id)
        if model.status in UNDECIDED:  # a trained one may be live: what it is does not change any more
            model.status, model.reason, model.finished_at = Status.TRAINED, None, now()
            model.hyperparams, model.preprocessing = hyperparams, preprocessing
            model.score, model.metrics, model.golden = score, metrics, golden
            model.artifact_uri, model.artifact_sha256 = artifact.uri, artifact.sha256
            model.artifact_bytes = artifact.bytes
            model.mlflow_run_id, model.mlflow_model_id = mlflow_run_id, mlflow_model_id
            session.flush()
        return model_record(model)


def fail_model(model_id: int, reason: str, mlflow_run_id: str | None) -> ModelRecord:
    with transaction(write=True) as session:
        model = _model(session, model_id)
        if model.status in UNDECIDED:  # another try of the same candidate may have done it
            model.status, model.finished_at = Status.FAILED, now()
            model.reason, model.mlflow_run_id = reason, mlflow_run_id
            session.flush()
        return model_record(model)


def beat(request_prefix: str) -> None:
    """The process that trains these candidates is alive."""
    with transaction(write=True) as session:
        session.execute(update(Model).where(*_running(request_prefix)).values(heartbeat_at=now()))


def cancel_models(request_prefix: str, reason: str) -> None:
    """What is being trained of one run is given up; a retry of the run may begin it anew."""
    with transaction(write=True) as session:
        given_up = {"status": Status.CANCELLED, "reason": reason, "finished_at": now()}
        session.execute(update(Model).where(*_running(request_prefix)).values(given_up))


def fail_lost(model_id: int, silent_since: datetime) -> bool:
    """Records a candidate as failed of whose process nothing was heard since then; False if it was heard, or ended."""
    with transaction(write=True) as session:
        reason = f"its process was lost: there was no sign of it since {silent_since:%Y-%m-%d %H:%M:%S} UTC"
        lost = update(Model).where(Model.id == model_id, Model.status == Status.RUNNING, last_sign() <= silent_since)
        done = session.execute(lost.values(status=Status.FAILED, reason=reason, finished_at=now()).returning(Model.id))
        return done.first() is not None


def mark_mirrored(project_id: int, seq: int) -> None:
    """MLflow's alias was made to name what this deployment made live."""
    with transaction(write=True) as session:
        behind = or_(Project.mirrored_seq.is_(None), Project.mirrored_seq < seq)
        session.execute(update(Project).where(Project.id == project_id, behind).values(mirrored_seq=seq))


def prune(project_name: str, keep: Keep) -> Pruning:
    """No strategy may choose what is not kept from now on; its files are to be deleted afterwards.

    Raises:
        UnknownProject: there is no such project.
    """
    with transaction(write=True) as session:
        project = _locked(session, Project.name == project_name)
        if project is None:
            raise unknown_project(session, project_name)
        # Whoever begins a candidate on one of these snapshots came before, and is seen, or is refused afterwards.
        session.execute(select(Snapshot.id).where(Snapshot.project_id == project.id).with_for_update()).all()
        models = prunable_models(session, project.id, keep)
        for model in models:
            model.status = Status.PRUNED
        snapshots = prunable_snapshots(session, project.id, {model.id for model in models})
        for snapshot in snapshots:
            snapshot.pruned_at = now()
        return Pruning(tuple(model.id for model in models), tuple(snapshot.id for snapshot in snapshots))


def forget_model_files(model_id: int) -> None:
    """The files of a pruned model are gone, in MLflow too."""
    with transaction(write=True) as session:
        model = _model(session, model_id)
        assert model.status is Status.PRUNED, "only what was pruned loses its files"
        model.artifact_uri = model.artifact_sha256 = model.artifact_bytes = None
        model.mlflow_run_id = model.mlflow_model_id = None


def forget_snapshot_files(snapshot_id: int) -> None:
    """The files of a pruned snapshot are gone."""
    with transaction(write=True) as session:
        snapshot = session.get_one(Snapshot, snapshot_id)
        assert snapshot.pruned_at is not None, "only what was pruned loses its files"
        snapshot.artifact_uri = snapshot.hashes_uri = ""


def promote(
    challenger_id: int,
    evidence: Evidence,
    terms: Terms,
    verdict: Verdict,
    *,
    request_key: str,
    decided_by: str,
    code_version: str,
) -> Decision:
    """The automatic deploy: writes the receipt of a verdict, and the deployment if it says so, both or neither.

    The same key again for the same model adds nothing and answers what was decided.

    Raises:
        UnknownModel: there is no such model.
        ChoiceChanged: another model than the evidence's is live by now, one of the two came into quarantine, or the
            challenger was pruned.
    """
    with transaction(write=True) as session:
        owner = select(Model.project_id).where(Model.id == challenger_id).scalar_subquery()
        project = _locked(session, Project.id == owner)
        if project is None:
            raise UnknownModel(challenger_id)
        incumbent = session.scalar(live(project.id))
        live_id = incumbent.id if incumbent else None
        key = attempt(request_key, challenger_id)
        if done := session.scalar(select(DecisionRow).where(DecisionRow.request_key == key)):
            return _decision(project, done, live_id)
        challenger = _model(session, challenger_id)
        held = incumbent is not None and incumbent.quarantine is not None
        if (live_id, held) != (evidence.live_model_id, evidence.live_quarantined):
            raise ChoiceChanged(f"model {live_id} of {project.name!r} is live by now")
        if verdict.deploy and challenger.quarantine is not None:
            raise ChoiceChanged(f"model {challenger_id} of {project.name!r} is in quarantine by now")
        if verdict.deploy and challenger.status is not Status.TRAINED:
            raise ChoiceChanged(f"model {challenger_id} of {project.name!r} is {challenger.status} by now")
        low, high = evidence.interval or (None, None)
        row = DecisionRow(
            project_id=project.id,
            challenger_id=challenger_id,
            live_model_id=live_id,
            candidate_ids=list(evidence.candidate_ids),
            basis=evidence.basis,
            challenger_score=evidence.challenger_score,
            live_score=evidence.live_score,
            baseline_score=evidence.baseline_score,
            rows_compared=evidence.rows_compared,
            rows_excluded=evidence.rows_excluded,
            live_quarantined=evidence.live_quarantined,
            interval_low=low,
            interval_high=high,
            compare=terms.compare,
            min_improvement=terms.min_improvement,
            confidence=terms.confidence,
            must_beat_baseline=terms.must_beat_baseline,
            min_rows=terms.min_rows,
            deployed=verdict.deploy,
            reason=verdict.reason,
            decided_by=decided_by,
            code_version=code_version,
            request_key=key,
        )
        session.add(row)
        if verdict.deploy:
            _append(session, project, challenger, Strategy.NEW_SCORE, key, decided_by)
        session.flush()
        return _decision(project, row, challenger_id if verdict.deploy else live_id)


def decided(request_key: str, challenger_id: int) -> Decision | None:
    """What an earlier try decided about the same model, with what is live now."""
    with transaction() as session:
        done = session.scalar(select(DecisionRow).where(DecisionRow.request_key == attempt(request_key, challenger_id)))
        if done is None:
            return None
        incumbent = session.scalar(live(done.project_id))
        return _decision(session.get_one(Project, done.project_id), done, incumbent.id if incumbent else None)


def attempt(request_key: str, challenger_id: int) -> str:
    """The key of a decision. The model is part of it: a retry may have found a better one, to be decided about anew."""
    return f"{request_key}:{challenger_id}"


def deploy(
    wish: DeployRequest,
    *,
    seen: tuple[int, int | None] | None = None,
    forced: bool = False,
    reason: str | None = None,
    quarantine: bool = False,
    request_key: str,
    deployed_by: str,
) -> DeployResult:
    """Makes the choice of a wish live; choosing what is live already adds nothing. The same key again adds nothing.

    `seen` is the choice that was looked at and proven, and the model that was live then: where one of them is another
    by now, nothing is done. `quarantine` puts the model that was live into quarantine for that `reason`, in the same
    transaction.

    Raises:
        UnknownProject: there is no such project.
        NoCandidate: no model qualifies; the history is unchanged.
        ChoiceChanged: the choice or the live model is not what was `seen`.
    """
    with transaction(write=True) as session:
        project = _locked(session, Project.name == wish.project_name)
        if project is None:
            raise unknown_project(session, wish.project_name)
        if done := _recorded(session, request_key):
            if (done.project_name, done.strategy) != (wish.project_name, wish.strategy):
                raise RegistryConflict(
                    f"request {request_key} deployed {done.project_name!r} by {done.strategy} before"
                )
            return done
        incumbent = session.scalar(live(project.id))
        chosen = choose(session, project, wish, incumbent)
        changed = incumbent is None or chosen.id != incumbent.id
        if seen not in (None, (chosen.id, incumbent.id if incumbent else None)):
            raise ChoiceChanged(f"{wish.strategy} chooses model {chosen.id} of {project.name!r} by now")
        if changed:
            _append(session, project, chosen, wish.strategy, request_key, deployed_by, forced=forced, reason=reason)
        if changed and quarantine and incumbent is not None:
            _hold(session, incumbent, reason or "", deployed_by)
        return _result(project, wish.strategy, chosen, incumbent.id if incumbent else None, changed=changed)


def recorded(request_key: str) -> DeployResult | None:
    """What an earlier try of the same deploy did; None if there was none."""
    with transaction() as session:
        return _recorded(session, request_key)


def quarantine(model_id: int, reason: str, *, by: str) -> ModelRecord:
    """No strategy may choose the model from now on, whatever its score; one that is live stays live.

    Raises:
        UnknownModel: there is no such model.
        InvalidInput: it is in quarantine already.
    """
    with transaction(write=True) as session:
        model = _model_of_locked_project(session, model_id)
        if model.quarantine is not None:
            raise InvalidInput(f"model {model_id} is in quarantine already: {model.quarantine}")
        _hold(session, model, reason, by)
        session.refresh(model)
        return model_record(model)


def release(model_id: int, *, by: str) -> ModelRecord:
    """Every strategy may choose the model again.

    Raises:
        UnknownModel: there is no such model.
        InvalidInput: it is not in quarantine.
    """
    with transaction(write=True) as session:
        model = _model_of_locked_project(session, model_id)
        held = select(Quarantine).where(Quarantine.model_id == model_id, Quarantine.released_at.is_(None))
        row = session.scalar(held)
        if row is None:
            raise InvalidInput(f"model {model_id} is not in quarantine")
        row.released_by, row.released_at = by, now()
        session.flush()
        session.refresh(model)
        return model_record(model)


def _made_once(session: Session, wanted: Select[tuple[Row]], new: Row) -> Row:
    """The row that is wanted, or the new one in its place."""
    found = session.scalar(wanted)
    if found is not None:
        return found
    with suppress(IntegrityError), session.begin_nested():  # another process may have made it since
        session.add(new)
    return session.scalars(wanted).one()


def _locked(session: Session, which: Any) -> Project | None:
    """The project, ours alone until the transaction ends."""
    return session.scalar(update(Project).where(which).values(revision=Project.revision + 1).returning(Project))


def _running(request_prefix: str) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return Model.status == Status.RUNNING, Model.request_key.startswith(request_prefix, autoescape=True)


def _append(
    session: Session,
    project: Project,
    model: Model,
    strategy: Strategy,
    request_key: str,
    deployed_by: str,
    *,
    forced: bool = False,
    reason: str | None = None,
) -> None:
    newest = session.scalar(select(func.max(Deployment.seq)).where(Deployment.project_id == project.id))
    session.add(
        Deployment(
            project_id=project.id,
            seq=(newest or 0) + 1,
            model_id=model.id,
            algorithm=model.algorithm,
            strategy=strategy,
            forced=forced,
            reason=reason,
            request_key=request_key,
            deployed_by=deployed_by,
        )
    )
    session.flush()


def _hold(session: Session, model: Model, reason: str, by: str) -> None:
    if model.quarantine is None:
        session.add(Quarantine(project_id=model.project_id, model_id=model.id, reason=reason, placed_by=by))
        session.flush()


def _decision(project: Project, row: DecisionRow, live_id: int | None) -> Decision:
    interval = None if row.interval_low is None or row.interval_high is None else (row.interval_low, row.interval_high)
    return Decision(
        project.name, row.challenger_id, row.deployed, live_id, row.live_model_id, row.reason, row.id, interval
    )


def _recorded(session: Session, request_key: str) -> DeployResult | None:
    """What an earlier try of the same request did."""
    deployment = session.scalar(select(Deployment).where(Deployment.request_key == request_key))
    if deployment is None:
        return None
    before = select(Deployment.model_id).where(
        Deployment.project_id == deployment.project_id, Deployment.seq == deployment.seq - 1
    )
    project = session.get_one(Project, deployment.project_id)
    return _result(
        project, deployment.strategy, _model(session, deployment.model_id), session.scalar(before), changed=True
    )


def _result(
    project: Project, strategy: Strategy, model: Model, previous_model_id: int | None, *, changed: bool
) -> DeployResult:
    return DeployResult(project.name, strategy, model.algorithm, model.id, score_of(model), previous_model_id, changed)


def _model(session: Session, model_id: int) -> Model:
    model = session.get(Model, model_id) if 0 < model_id < ID_LIMIT else None
    if model is None:
        raise UnknownModel(model_id)
    return model


def _model_of_locked_project(session: Session, model_id: int) -> Model:
    """So that a deploy comes before or after, and not between."""
    project_id = _model(session, model_id).project_id
    _locked(session, Project.id == project_id)
    return session.get_one(Model, model_id, populate_existing=True)
