"""The only writes. Each function is one transaction and returns what it left behind.

A promotion's first statement updates the project's `revision`: PostgreSQL then holds that row's lock and SQLite its
write lock, so what is read next (the live model, the newest `seq`) stays true until the deployment is inserted.
"""

import unicodedata
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from sqlalchemy import Select, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from registry.errors import InvalidName, NoCandidate, RegistryConflict, TaskMismatch, UnknownModel, UnknownProject
from registry.queries import ID_LIMIT, model_record, score_of, snapshot_record
from registry.schema import Deployment, Model, Project, Snapshot, now
from registry.session import transaction
from registry.strategies import STRATEGIES, live, specific
from registry.values import Artifact, Decision, DeployResult, ModelRecord, SnapshotRecord, Verdict
from registry.vocabulary import Sampling, Status, Strategy, Task

# Decides whether a challenger replaces the live model (None: nothing is live); called under the project's lock.
Rule = Callable[[ModelRecord, ModelRecord | None], Verdict]
Row = TypeVar("Row", Project, Model)


def checked_name(name: object) -> str:
    """A project's name as it is stored: NFC, 1 to 200 characters, none of them NUL or half a surrogate pair.

    Raises:
        InvalidName: it cannot be stored, or could not be told from another.
    """
    if not isinstance(name, str) or not name.strip():
        raise InvalidName("a project needs a name that is not blank")
    if "\x00" in name or any(unicodedata.category(character) == "Cs" for character in name):
        raise InvalidName(f"project name {name!r} has a character that no database can store")
    name = unicodedata.normalize("NFC", name.strip())
    if len(name) > 200:
        raise InvalidName(f"a project name has at most 200 characters; this one has {len(name)}")
    return name


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
    artifact: Artifact,
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
            artifact_uri=artifact.uri,
            artifact_sha256=artifact.sha256,
            artifact_bytes=artifact.bytes,
            request_key=request_key,
        )
        session.add(snapshot)
        session.flush()
        return snapshot_record(snapshot)


def start_model(snapshot: SnapshotRecord, algorithm: str, hyperparams: dict[str, Any], request_key: str) -> ModelRecord:
    """A candidate that is being trained; the same key again is the same candidate, as it is if it is trained."""
    with transaction(write=True) as session:
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
        if model.status is not Status.TRAINED:
            model.status, model.reason, model.finished_at = Status.RUNNING, None, None
            model.snapshot_id = snapshot.id
            session.flush()
        return model_record(model)


def finish_model(
    model_id: int,
    *,
    hyperparams: dict[str, Any],
    preprocessing: dict[str, dict[str, Any]],
    score: float,
    metrics: dict[str, float],
    artifact: Artifact,
    mlflow_run_id: str,
    mlflow_model_id: str,
) -> ModelRecord:
    """A candidate that was fitted, scored and saved: from now on any strategy may choose it. It is trained once.

    `hyperparams` are those that it was fitted with, a search's winners among them.
    """
    with transaction(write=True) as session:
        model = _model(session, model_id)
        if model.status is not Status.TRAINED:  # it may be live: what it is does not change any more
            model.status, model.reason, model.finished_at = Status.TRAINED, None, now()
            model.hyperparams, model.preprocessing = hyperparams, preprocessing
            model.score, model.metrics = score, metrics
            model.artifact_uri, model.artifact_sha256 = artifact.uri, artifact.sha256
            model.artifact_bytes = artifact.bytes
            model.mlflow_run_id, model.mlflow_model_id = mlflow_run_id, mlflow_model_id
            session.flush()
        return model_record(model)


def fail_model(model_id: int, reason: str, mlflow_run_id: str | None) -> ModelRecord:
    with transaction(write=True) as session:
        model = _model(session, model_id)
        if model.status is not Status.TRAINED:  # another try of the same candidate may have done it
            model.status, model.finished_at = Status.FAILED, now()
            model.reason, model.mlflow_run_id = reason, mlflow_run_id
            session.flush()
        return model_record(model)


def promote(model_id: int, rule: Rule, *, request_key: str, deployed_by: str) -> Decision:
    """The automatic deploy: asks the rule about this model and the one that is live at this very moment.

    The same key again for the same model adds nothing.

    Raises:
        UnknownModel: there is no such model.
    """
    with transaction(write=True) as session:
        project = _locked(session, Project.id == select(Model.project_id).where(Model.id == model_id).scalar_subquery())
        if project is None:
            raise UnknownModel(model_id)
        challenger, incumbent = _model(session, model_id), session.scalar(live(project.id))
        # The model is part of the key: a retry may have found a better one, which has not been asked about yet.
        request_key = f"{request_key}:{model_id}"
        if done := _recorded(session, request_key):
            now_live = incumbent.id if incumbent else None
            return Decision(
                project.name, model_id, True, now_live, done.previous_model_id, "deployed by an earlier try"
            )
        verdict = rule(model_record(challenger), model_record(incumbent) if incumbent else None)
        if verdict.deploy:
            _append(session, project, challenger, Strategy.NEW_SCORE, request_key, deployed_by)
        before = incumbent.id if incumbent else None
        after = model_id if verdict.deploy else before
        return Decision(project.name, model_id, verdict.deploy, after, before, verdict.reason)


def deploy(
    project_name: str,
    strategy: Strategy,
    algorithm_name: str | None = None,
    *,
    model_id: int | None = None,
    request_key: str,
    deployed_by: str,
) -> DeployResult:
    """Makes the strategy's choice live, which is `model_id` for `specific`; choosing what is live already adds nothing.
    The same key again adds nothing.

    Raises:
        UnknownProject: there is no such project.
        NoCandidate: no model qualifies; the history is unchanged.
    """
    with transaction(write=True) as session:
        project = _locked(session, Project.name == project_name)
        if project is None:
            raise UnknownProject(project_name, session.scalars(select(Project.name).order_by(Project.name)))
        if done := _recorded(session, request_key):
            if (done.project_name, done.strategy) != (project_name, strategy):
                raise RegistryConflict(
                    f"request {request_key} deployed {done.project_name!r} by {done.strategy} before"
                )
            return done
        incumbent = session.scalar(live(project.id))
        if model_id is None:
            chosen = session.scalar(STRATEGIES[strategy](project.id, algorithm_name))
        else:
            chosen = session.scalar(specific(project.id, model_id)) if 0 < model_id < ID_LIMIT else None
        if chosen is None and model_id is not None:
            raise _not_deployable(session, project, model_id)
        if chosen is None:
            raise _no_candidate(session, project, strategy, algorithm_name, incumbent)
        changed = incumbent is None or chosen.id != incumbent.id
        if changed:
            _append(session, project, chosen, strategy, request_key, deployed_by)
        return _result(project, strategy, chosen, incumbent.id if incumbent else None, changed=changed)


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


def _append(
    session: Session, project: Project, model: Model, strategy: Strategy, request_key: str, deployed_by: str
) -> None:
    newest = session.scalar(select(func.max(Deployment.seq)).where(Deployment.project_id == project.id))
    session.add(
        Deployment(
            project_id=project.id,
            seq=(newest or 0) + 1,
            model_id=model.id,
            strategy=strategy,
            request_key=request_key,
            deployed_by=deployed_by,
        )
    )
    session.flush()


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
    model = session.get(Model, model_id)
    if model is None:
        raise UnknownModel(model_id)
    return model


def _not_deployable(session: Session, project: Project, model_id: int) -> NoCandidate:
    model = session.get(Model, model_id) if 0 < model_id < ID_LIMIT else None
    if model is None or model.project_id != project.id:
        return NoCandidate(f"{project.name!r} has no model {model_id}: `frontrunner models` lists those that it has")
    return NoCandidate(f"model {model_id} of {project.name!r} is {model.status}, not trained: it cannot answer")


def _no_candidate(
    session: Session, project: Project, strategy: Strategy, algorithm_name: str | None, incumbent: Model | None
) -> NoCandidate:
    name, of = repr(project.name), f" of algorithm {algorithm_name!r}" if algorithm_name else ""
    if strategy is not Strategy.ROLLBACK:
        mend = "train one, or leave the algorithm out" if of else "train one first"
        return NoCandidate(f"{name} has no trained model{of}: {mend}")
    if incumbent is None:
        return NoCandidate(
            f"{name} has nothing deployed, so there is nothing to roll back from: deploy with best_score"
        )
    earlier = session.scalar(STRATEGIES[strategy](project.id, None))
    if earlier is not None:
        return NoCandidate(
            f"{name} has never had another model{of} live than the one that is: leave the algorithm out to go back to"
            f" model {earlier.id} ({earlier.algorithm})"
        )
    return NoCandidate(
        f"{name} has only ever had one model live, so there is nothing to roll back to: deploy another with best_score"
        " or most_recent"
    )
