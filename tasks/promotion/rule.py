"""The automatic rule: a pure function of the evidence and the terms.

The reasons are recorded and compared by replays, so their wording must not change.
"""

from registry.values import Evidence, ModelRecord, Terms, Verdict
from registry.vocabulary import KEY_METRIC, METRIC_LABEL, Basis, Task


def apply_rule(
    task: Task, challenger: ModelRecord, live: ModelRecord | None, evidence: Evidence, terms: Terms
) -> Verdict:
    """Return whether the challenger goes live, and the reason."""
    label, score = METRIC_LABEL[KEY_METRIC[task]], evidence.challenger_score
    if refused := _refused(challenger, live, evidence):
        return Verdict(False, refused)
    assert score is not None, "a challenger that is not refused was measured"
    base = evidence.baseline_score
    if terms.must_beat_baseline and not beats(score, base):
        return Verdict(
            False,
            f"{describe_model(challenger)} does not beat the baseline: {label} {score:.4f} against {base or 0:.4f}",
        )
    if live is None or evidence.live_score is None:
        worse = "; it is worse than predicting the mean" if task is Task.REGRESSION and score < 0 else ""
        first = "is the first one live" if live is None else f"replaces {describe_model(live)}, which is in quarantine"
        return Verdict(True, f"{describe_model(challenger)} {first}: {label} {score:.4f}{worse}")
    gain = score - evidence.live_score
    wins = beats(score, evidence.live_score) and gain > terms.min_improvement
    sure = evidence.interval is None or evidence.interval[0] > terms.min_improvement
    verb = "replaces" if wins and sure else ("ties with" if gain == 0 else "does not beat")
    scores = f"{label} {score:.4f} against {evidence.live_score:.4f} ({gain:+.2g})"
    reasons = [f"{describe_model(challenger)} {verb} {describe_model(live)}: {scores}"]
    if evidence.interval is not None:
        low, high = evidence.interval
        reasons.append(f"{100 * (terms.confidence or 0):g} % interval {low:+.2g} to {high:+.2g}")
    if gain > 0 and not (wins and sure):
        wanted = f"more than {terms.min_improvement:g}" if terms.min_improvement else "an improvement"
        reasons.append(f"{wanted} was asked for" if not wins else f"{wanted} is not shown with that confidence")
    reasons += _describe_rows(evidence, challenger, live)
    return Verdict(wins and sure, "; ".join(reasons))


def _refused(challenger: ModelRecord, live: ModelRecord | None, evidence: Evidence) -> str:
    """Return why the scores do not count; empty if they count."""
    if challenger.score is None:
        return f"{describe_model(challenger)} has no score"
    if challenger.quarantine is not None:
        return f"{describe_model(challenger)} is in quarantine ({challenger.quarantine})"
    if live is not None and live.id == challenger.id:
        return f"{describe_model(challenger)} is live already"
    stays = f"{describe_model(live)} stays live" if live else "nothing goes live"
    return f"{stays}: {evidence.obstacle}" if evidence.obstacle or evidence.challenger_score is None else ""


def beats(score: float | None, live: float | None) -> bool:
    """Return whether a score beats the live model's. A tie keeps the live model, and a missing score never wins."""
    if score is None:
        return False
    return live is None or score > live


def describe_model(model: ModelRecord) -> str:
    return f"{model.algorithm} (model {model.id})"


def _describe_rows(evidence: Evidence, challenger: ModelRecord, live: ModelRecord) -> list[str]:
    if evidence.basis is Basis.RECORDED:
        return [f"scored on different rows: snapshots {challenger.snapshot_id} and {live.snapshot_id}"]
    if evidence.rows_excluded:
        return [f"on {evidence.rows_compared:,} rows that neither was trained on ({evidence.rows_excluded:,} left out)"]
    return [f"on the same {evidence.rows_compared:,} rows"] if challenger.snapshot_id != live.snapshot_id else []
