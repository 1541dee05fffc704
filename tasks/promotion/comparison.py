"""A challenger beside the live model, on rows that neither was trained on: what is measured, not what is judged."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from registry import queries
from registry.errors import ArtifactChanged, ArtifactMissing, ArtifactUnusable, BadRows
from registry.serving.artifacts import load_pipeline, verified
from registry.serving.features import features
from registry.serving.inputs import aligned
from registry.timeouts import with_timeout
from registry.values import Evidence, ModelRecord, SnapshotRecord, Terms
from registry.vocabulary import Basis, Compare, Task
from tasks.data import frozen_rows
from tasks.data.predicted import _predictions, remember
from tasks.data.row_hashes import occur_in
from tasks.estimators.scoring import baseline, key_metric, predictions
from tasks.promotion.bootstrap import interval
from tasks.promotion.rule import describe_model
from tasks.values import Rows

log = logging.getLogger("frontrunner")


LOAD_SECONDS = 60
MEND = "deploy by hand, or compare='recorded'"


class NotComparable(Exception):
    """Why two models cannot be compared, and what could be done."""


def compare(
    task: Task,
    challenger: ModelRecord,
    live: ModelRecord | None,
    candidates: Sequence[ModelRecord],
    terms: Terms,
    seed: int | None = None,
) -> Evidence:
    """The challenger, the best of the candidates, measured beside the model that is live.

    The interval is drawn by `seed`, or by the challenger's id. An outage is evidence of nothing: the live model is not
    compared, and stays.
    """
    live_id, seed = live.id if live else None, challenger.id if seed is None else seed
    known = Evidence(
        Basis.NOTHING_LIVE,
        live_id,
        tuple(sorted(model.id for model in candidates)),
        challenger_score=challenger.score,
        live_quarantined=live is not None and live.quarantine is not None,
    )
    if challenger.quarantine is not None:
        return replace(known, basis=Basis.HELD)
    try:
        if live is None or live.quarantine is not None:
            basis = Basis.NOTHING_LIVE if live is None else Basis.QUARANTINED
            return _with_baseline(replace(known, basis=basis), task, challenger, terms)
        same = _is_same_rows(challenger, live)
        if same or terms.compare is Compare.RECORDED:
            return _recorded(known, task, challenger, live, candidates, terms, seed, same=same)
        return _on_same_rows(known, task, challenger, live, candidates, terms, seed)
    except NotComparable as error:
        return replace(known, basis=Basis.NOT_COMPARABLE, challenger_score=None, obstacle=str(error))
    except (ArtifactMissing, ArtifactChanged, ArtifactUnusable) as error:
        obstacle = f"the two could not be compared: {error}"
        return replace(known, basis=Basis.UNREACHABLE, challenger_score=None, obstacle=obstacle)


def _is_same_rows(one: ModelRecord, other: ModelRecord) -> bool:
    """One snapshot, or two of the same rows with the same split."""
    if one.snapshot_id == other.snapshot_id:
        return True
    mine, its = queries.snapshot(one.snapshot_id), queries.snapshot(other.snapshot_id)
    same = {(each.artifact.sha256, each.train_rows, each.y_column_names) for each in (mine, its)}
    return len(same) == 1


def _recorded(
    known: Evidence,
    task: Task,
    challenger: ModelRecord,
    live: ModelRecord,
    candidates: Sequence[ModelRecord],
    terms: Terms,
    seed: int,
    *,
    same: bool,
) -> Evidence:
    """The scores as they were recorded: on one snapshot they are those of the same rows."""
    evidence = replace(known, basis=Basis.SAME_ROWS if same else Basis.RECORDED, live_score=live.score)
    if same:
        evidence = replace(evidence, rows_compared=queries.snapshot(challenger.snapshot_id).test_rows, rows_excluded=0)
    if same and terms.confidence is not None:
        rows = frozen_rows.rows(queries.snapshot(challenger.snapshot_id))
        kept = np.ones(len(rows.y_test), bool)
        pipeline = _loaded(live)
        its = _its_predictions(pipeline, rows, kept, queries.snapshot(live.snapshot_id), live)
        labels = _labels(task, rows, pipeline)
        interval = _interval(task, challenger, candidates, rows, kept, its, labels, terms.confidence, seed)
        evidence = replace(evidence, interval=interval)
    return _with_baseline(evidence, task, challenger, terms)


def _with_baseline(evidence: Evidence, task: Task, challenger: ModelRecord, terms: Terms) -> Evidence:
    """On all test rows; the rows are only read for it where it is a gate."""
    if not terms.must_beat_baseline:
        return evidence
    rows = frozen_rows.rows(queries.snapshot(challenger.snapshot_id))
    kept = np.ones(len(rows.y_test), bool)
    labels = None if task is Task.REGRESSION else np.union1d(rows.y_train, rows.y_test)
    return replace(evidence, baseline_score=_baseline_score(task, rows, kept, labels))


def _on_same_rows(
    known: Evidence,
    task: Task,
    challenger: ModelRecord,
    live: ModelRecord,
    candidates: Sequence[ModelRecord],
    terms: Terms,
    seed: int,
) -> Evidence:
    """Both models on the challenger's test rows, without those that one of the two was trained on."""
    mine, its = queries.snapshot(challenger.snapshot_id), queries.snapshot(live.snapshot_id)
    kept = _unseen(mine, its)
    rows = frozen_rows.rows(mine)
    _check_enough(task, rows.y_test, kept, terms.min_rows)
    pipeline = _loaded(live)
    theirs = _its_predictions(pipeline, rows, kept, its, live)
    y, labels = rows.y_test[kept], _labels(task, rows, pipeline)
    score = key_metric(task, y, _predicted(challenger, rows)[kept], labels)
    live_score = key_metric(task, y, theirs, labels)
    if not np.isfinite(live_score):
        raise NotComparable(f"{describe_model(live)} predicts numbers that are not finite for these rows: {MEND}")
    evidence = replace(
        known,
        basis=Basis.SAME_ROWS,
        challenger_score=score,
        live_score=live_score,
        baseline_score=_baseline_score(task, rows, kept, labels),
        rows_compared=int(kept.sum()),
        rows_excluded=int((~kept).sum()),
    )
    if terms.confidence is None:
        return evidence
    return replace(
        evidence, interval=_interval(task, challenger, candidates, rows, kept, theirs, labels, terms.confidence, seed)
    )


def _unseen(mine: SnapshotRecord, its: SnapshotRecord) -> "np.ndarray[Any, np.dtype[np.bool_]]":
    """Which of a snapshot's test rows are neither among its own training rows nor among another's.

    Raises:
        NotComparable: the other one's columns are not all there, or it predicts another target.
    """
    if mine.y_column_names != its.y_column_names:
        targets = (", ".join(snapshot.y_column_names) for snapshot in (its, mine))
        raise NotComparable("it predicts {}, and the challenger {}: deploy by hand".format(*targets))
    names = [column["name"] for column in its.columns]
    there = {column["name"]: column["type"] for column in mine.columns}
    if gone := [name for name in names if name not in there]:
        raise NotComparable(f"{mine.relation_name} has no column {gone[0]!r} any more, which it was trained on: {MEND}")
    for column in its.columns:
        if _family(column["type"]) != _family(there[column["name"]]):
            raise NotComparable(
                f"column {column['name']!r} was {column['type']} at its training and is {there[column['name']]} now, so"
                f" its rows cannot be known again: {MEND}"
            )
    with verified(mine.hashes) as path:
        own = np.fromfile(path, "<u8", offset=8 * mine.train_rows).astype(np.uint64)
        seen = occur_in(own, path, mine.train_rows)
    by_its_columns = own if len(names) == len(there) else frozen_rows.hashes_of_test_rows(mine, names)
    with verified(its.hashes) as path:
        seen |= occur_in(by_its_columns, path, its.train_rows)
    return ~seen


def _family(kind: str) -> str:
    """Types whose equal values have equal hashes: a float32 is another number than the one that it was rounded from."""
    if kind.startswith("timestamp"):
        return "timestamp"
    return kind if kind in ("string", "float", "halffloat") else "number"


def _check_enough(task: Task, y: Any, kept: Any, min_rows: int) -> None:
    """Raises: NotComparable."""
    more = f"train on a relation with more new rows, {MEND}"
    if kept.sum() < min_rows:
        raise NotComparable(
            f"only {kept.sum():,} of {len(y):,} test rows were in no training, and {min_rows:,} are needed"
            f" (MIN_COMPARED_ROWS): {more}"
        )
    if task is Task.CLASSIFICATION:
        if len(missing := np.setdiff1d(y, y[kept])):
            raise NotComparable(f"no test row of class {missing[0]!s} is left that was in no training: {more}")
    elif (np.ptp(y[kept], axis=0) == 0).any():
        raise NotComparable(f"the test rows that were in no training all have the same target: {more}")


def _its_predictions(pipeline: Any, rows: Rows, kept: Any, its: SnapshotRecord, live: ModelRecord) -> Any:
    """Raises: NotComparable: the live model cannot predict for these rows."""
    try:
        return _like(predictions(pipeline, aligned(rows.X_test[kept], features(its, live))), rows.y_test)
    except BadRows as error:
        raise NotComparable(f"it cannot predict for the challenger's rows: {error}; {MEND}") from error
    except Exception as error:  # whatever a library raises
        reason = " ".join(str(error).split())[:300]
        raise NotComparable(f"it cannot predict for the challenger's rows: {type(error).__name__}: {reason}") from error


def _predicted(model: ModelRecord, rows: Rows) -> Any:
    """For all test rows of its own snapshot."""
    predicted = _predictions.get(model.id)
    if predicted is None:
        predicted = predictions(_loaded(model), rows.X_test)
        remember(model.id, predicted)
    return _like(predicted, rows.y_test)


def _like(answers: Any, y: Any) -> Any:
    """Answers or classes in the type and the form of the targets: catboost has text as objects, and columns of one."""
    flat = np.asarray(answers).ravel() if y.ndim == 1 else np.asarray(answers)
    return flat.astype(str) if _is_text(flat) else flat


def _is_text(labels: Any) -> bool:
    return labels.dtype.kind in "US" or (labels.dtype == object and all(isinstance(label, str) for label in labels))


def _loaded(model: ModelRecord) -> Any:
    artifact = saved(model)
    try:
        return with_timeout(LOAD_SECONDS, f"load of model {model.id}", lambda: load_pipeline(artifact))
    except TimeoutError as error:
        raise ArtifactMissing(f"{artifact.uri} could not be read within {LOAD_SECONDS} s") from error


def _interval(
    task: Task,
    challenger: ModelRecord,
    candidates: Sequence[ModelRecord],
    rows: Rows,
    kept: Any,
    live: Any,
    labels: Any,
    confidence: float,
    seed: int,
) -> tuple[float, float]:
    ordered = sorted(candidates, key=lambda model: model.id)
    place = [model.id for model in ordered].index(challenger.id)
    predictions = [_predicted(model, rows)[kept] for model in ordered]
    found = interval(task, rows.y_test[kept], live, predictions, place, labels, confidence, seed=seed)
    if not np.isfinite(found).all():
        raise NotComparable(f"no interval can be told from these rows: {MEND}, or leave confidence out")
    return found


def _labels(task: Task, rows: Rows, pipeline: Any) -> Any:
    """All that the truth or a model could say."""
    if task is Task.REGRESSION:
        return None
    return np.union1d(np.union1d(rows.y_train, rows.y_test), _like(pipeline.classes_, rows.y_test))


def _baseline_score(task: Task, rows: Rows, kept: Any, labels: Any) -> float:
    y = rows.y_test[kept]
    return key_metric(task, y, baseline(task, rows.y_train, len(y)), labels)


def saved(model: ModelRecord) -> Any:
    assert model.artifact is not None, "a trained model was saved"
    return model.artifact
