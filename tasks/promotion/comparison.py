"""Measure a challenger and the live model on rows that neither was trained on. The rule is applied elsewhere."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from registry import queries
from registry.errors import ArtifactChanged, ArtifactMissing, ArtifactUnusable, BadRows
from registry.serving.artifacts import load_pipeline, verified
from registry.serving.features import features
from registry.serving.inputs import aligned
from registry.timeouts import with_timeout
from registry.values import Artifact, Evidence, ModelRecord, SnapshotRecord, Terms
from registry.vocabulary import Basis, Compare, Task
from tasks.data import frozen_rows
from tasks.data.predicted import remember, remembered
from tasks.data.row_hashes import occur_in
from tasks.estimators.scoring import baseline, key_metric, predictions
from tasks.promotion.bootstrap import interval
from tasks.promotion.rule import describe_model
from tasks.values import Rows

LOAD_SECONDS = 60
FIX = "deploy by hand, or compare='recorded'"  # part of recorded reasons

Mask = np.ndarray[Any, np.dtype[np.bool_]]


class NotComparable(Exception):
    """Two models cannot be compared. The message says why, and how to proceed."""


def compare(
    task: Task,
    challenger: ModelRecord,
    live: ModelRecord | None,
    candidates: Sequence[ModelRecord],
    terms: Terms,
    seed: int | None = None,
) -> Evidence:
    """Measure the challenger, which is the best of the candidates, against the live model.

    `seed` is that of the interval; the default is the challenger's id. If a file cannot be read, there is no
    comparison.
    """
    evidence = Evidence(
        Basis.NOTHING_LIVE,
        live.id if live else None,
        tuple(sorted(model.id for model in candidates)),
        challenger_score=challenger.score,
        live_quarantined=live is not None and live.quarantine is not None,
    )
    if challenger.quarantine is not None:
        return replace(evidence, basis=Basis.HELD)
    try:
        if live is None or live.quarantine is not None:
            basis = Basis.NOTHING_LIVE if live is None else Basis.QUARANTINED
            return _with_baseline(replace(evidence, basis=basis), task, challenger, terms)
        seed = challenger.id if seed is None else seed
        return _Comparison(task, challenger, live, candidates, terms, seed).measure(evidence)
    except NotComparable as error:
        return replace(evidence, basis=Basis.NOT_COMPARABLE, challenger_score=None, obstacle=str(error))
    except (ArtifactMissing, ArtifactChanged, ArtifactUnusable) as error:
        obstacle = f"the two could not be compared: {error}"
        return replace(evidence, basis=Basis.UNREACHABLE, challenger_score=None, obstacle=obstacle)


@dataclass(frozen=True, slots=True)
class _Comparison:
    """A challenger and a live model that are to be compared."""

    task: Task
    challenger: ModelRecord
    live: ModelRecord
    candidates: Sequence[ModelRecord]
    terms: Terms
    seed: int

    def measure(self, evidence: Evidence) -> Evidence:
        """Return the evidence with the scores and the interval. Raises: NotComparable."""
        mine, its = queries.snapshot(self.challenger.snapshot_id), queries.snapshot(self.live.snapshot_id)
        if _is_same_rows(mine, its):
            return self._on_one_snapshot(evidence, mine, its)
        if self.terms.compare is Compare.RECORDED:
            recorded = replace(evidence, basis=Basis.RECORDED, live_score=self.live.score)
            return _with_baseline(recorded, self.task, self.challenger, self.terms)
        return self._on_unseen_rows(evidence, mine, its)

    def _on_one_snapshot(self, evidence: Evidence, mine: SnapshotRecord, its: SnapshotRecord) -> Evidence:
        """Take the recorded scores, which are those of the same rows."""
        evidence = replace(
            evidence, basis=Basis.SAME_ROWS, live_score=self.live.score, rows_compared=mine.test_rows, rows_excluded=0
        )
        if self.terms.confidence is not None:
            rows = frozen_rows.rows(mine)
            kept = np.ones(len(rows.y_test), bool)
            pipeline = _load(self.live)
            live_predictions = _live_predictions(pipeline, rows, kept, its, self.live)
            bounds = self._interval(rows, kept, live_predictions, _labels(self.task, rows, pipeline))
            evidence = replace(evidence, interval=bounds)
        return _with_baseline(evidence, self.task, self.challenger, self.terms)

    def _on_unseen_rows(self, evidence: Evidence, mine: SnapshotRecord, its: SnapshotRecord) -> Evidence:
        """Measure both models on the challenger's test rows that neither was trained on."""
        kept = _unseen(mine, its)
        rows = frozen_rows.rows(mine)
        _check_enough(self.task, rows.y_test, kept, self.terms.min_rows)
        pipeline = _load(self.live)
        live_predictions = _live_predictions(pipeline, rows, kept, its, self.live)
        y, labels = rows.y_test[kept], _labels(self.task, rows, pipeline)
        score = key_metric(self.task, y, _predictions_of(self.challenger, rows)[kept], labels)
        live_score = key_metric(self.task, y, live_predictions, labels)
        if not np.isfinite(live_score):
            raise NotComparable(
                f"{describe_model(self.live)} predicts numbers that are not finite for these rows: {FIX}"
            )
        bounds = None if self.terms.confidence is None else self._interval(rows, kept, live_predictions, labels)
        return replace(
            evidence,
            basis=Basis.SAME_ROWS,
            challenger_score=score,
            live_score=live_score,
            baseline_score=_baseline_score(self.task, rows, kept, labels),
            rows_compared=int(kept.sum()),
            rows_excluded=int((~kept).sum()),
            interval=bounds,
        )

    def _interval(self, rows: Rows, kept: Mask, live_predictions: Any, labels: Any) -> tuple[float, float]:
        assert self.terms.confidence is not None, "without a confidence there is no interval"
        ordered = sorted(self.candidates, key=lambda model: model.id)
        place = [model.id for model in ordered].index(self.challenger.id)
        predicted = [_predictions_of(model, rows)[kept] for model in ordered]
        y, confidence = rows.y_test[kept], self.terms.confidence
        bounds = interval(self.task, y, live_predictions, predicted, place, labels, confidence, self.seed)
        if not np.isfinite(bounds).all():
            raise NotComparable(f"no interval can be told from these rows: {FIX}, or leave confidence out")
        return bounds


def _is_same_rows(mine: SnapshotRecord, its: SnapshotRecord) -> bool:
    """Return whether two snapshots are one, or have the same rows with the same split."""
    same = {(each.artifact.sha256, each.train_rows, each.y_column_names) for each in (mine, its)}
    return mine.id == its.id or len(same) == 1


def _with_baseline(evidence: Evidence, task: Task, challenger: ModelRecord, terms: Terms) -> Evidence:
    """Add the baseline's score on all test rows if the terms require it, since the rows have to be read for it."""
    if not terms.must_beat_baseline:
        return evidence
    rows = frozen_rows.rows(queries.snapshot(challenger.snapshot_id))
    kept = np.ones(len(rows.y_test), bool)
    labels = None if task is Task.REGRESSION else np.union1d(rows.y_train, rows.y_test)
    return replace(evidence, baseline_score=_baseline_score(task, rows, kept, labels))


def _unseen(mine: SnapshotRecord, its: SnapshotRecord) -> Mask:
    """Return which test rows of `mine` are neither among its own training rows nor among those of `its`.

    Raises:
        NotComparable: `mine` lacks a column of `its`, or the targets differ.
    """
    _check_columns(mine, its)
    names = [column["name"] for column in its.columns]
    with verified(mine.hashes) as path:
        own = np.fromfile(path, "<u8", offset=8 * mine.train_rows).astype(np.uint64)
        seen = occur_in(own, path, mine.train_rows)
    by_its_columns = own if len(names) == len(mine.columns) else frozen_rows.hashes_of_test_rows(mine, names)
    with verified(its.hashes) as path:
        seen |= occur_in(by_its_columns, path, its.train_rows)
    return ~seen


def _check_columns(mine: SnapshotRecord, its: SnapshotRecord) -> None:
    """Raises: NotComparable."""
    if mine.y_column_names != its.y_column_names:
        targets = (", ".join(snapshot.y_column_names) for snapshot in (its, mine))
        raise NotComparable("it predicts {}, and the challenger {}: deploy by hand".format(*targets))
    types = {column["name"]: column["type"] for column in mine.columns}
    if missing := [column["name"] for column in its.columns if column["name"] not in types]:
        raise NotComparable(
            f"{mine.relation_name} has no column {missing[0]!r} any more, which it was trained on: {FIX}"
        )
    for column in its.columns:
        if _family(column["type"]) != _family(types[column["name"]]):
            raise NotComparable(
                f"column {column['name']!r} was {column['type']} at its training and is {types[column['name']]} now, so"
                f" its rows cannot be known again: {FIX}"
            )


def _family(kind: str) -> str:
    """Return the family of a type. Within a family equal values have equal hashes; a rounded float32 has another."""
    if kind.startswith("timestamp"):
        return "timestamp"
    return kind if kind in ("string", "float", "halffloat") else "number"


def _check_enough(task: Task, y: Any, kept: Mask, min_rows: int) -> None:
    """Raises: NotComparable."""
    more = f"train on a relation with more new rows, {FIX}"
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


def _live_predictions(pipeline: Any, rows: Rows, kept: Mask, its: SnapshotRecord, live: ModelRecord) -> Any:
    """Return the live model's predictions for the challenger's rows. Raises: NotComparable."""
    try:
        return _like(predictions(pipeline, aligned(rows.X_test[kept], features(its, live))), rows.y_test)
    except BadRows as error:
        raise NotComparable(f"it cannot predict for the challenger's rows: {error}; {FIX}") from error
    except Exception as error:  # any error of a library
        reason = " ".join(str(error).split())[:300]
        raise NotComparable(f"it cannot predict for the challenger's rows: {type(error).__name__}: {reason}") from error


def _predictions_of(model: ModelRecord, rows: Rows) -> Any:
    """Return a candidate's predictions for all test rows of its snapshot."""
    predicted = remembered(model.id)
    if predicted is None:
        predicted = predictions(_load(model), rows.X_test)
        remember(model.id, predicted)
    return _like(predicted, rows.y_test)


def _like(answers: Any, y: Any) -> Any:
    """Return predictions or classes with the type and shape of the targets; catboost's are objects in a column."""
    flat = np.asarray(answers).ravel() if y.ndim == 1 else np.asarray(answers)
    return flat.astype(str) if _is_text(flat) else flat


def _is_text(labels: Any) -> bool:
    return labels.dtype.kind in "US" or (labels.dtype == object and all(isinstance(label, str) for label in labels))


def _load(model: ModelRecord) -> Any:
    artifact = saved(model)
    try:
        return with_timeout(LOAD_SECONDS, f"load of model {model.id}", lambda: load_pipeline(artifact))
    except TimeoutError as error:
        raise ArtifactMissing(f"{artifact.uri} could not be read within {LOAD_SECONDS} s") from error


def _labels(task: Task, rows: Rows, pipeline: Any) -> Any:
    """Return every label that is true or could be predicted."""
    if task is Task.REGRESSION:
        return None
    return np.union1d(np.union1d(rows.y_train, rows.y_test), _like(pipeline.classes_, rows.y_test))


def _baseline_score(task: Task, rows: Rows, kept: Mask, labels: Any) -> float:
    y = rows.y_test[kept]
    return key_metric(task, y, baseline(task, rows.y_train, len(y)), labels)


def saved(model: ModelRecord) -> Artifact:
    assert model.artifact is not None, "a trained model was saved"
    return model.artifact
