"""Tables of results as lines of cells, the head first. The cell of an unknown number is empty."""

from collections.abc import Iterable

from registry.vocabulary import KEY_METRIC, METRIC_LABEL
from tasks.reporting.results import Candidate, TrainResult

Lines = list[list[str]]


def leaderboard(result: TrainResult) -> Lines:
    """Return every metric of every candidate, for the terminal."""
    key = KEY_METRIC[result.task]
    others = [name for name in _metrics(row.metrics for row in result.leaderboard) if name != key]
    failures = ["reason"] if any(row.reason for row in result.leaderboard) else []

    def line(name: str, score: float | None, metrics: dict[str, float], *more: str) -> list[str]:
        return [name, number(score), *(number(metrics.get(other)) for other in others), *more]

    return [
        ["algorithm", METRIC_LABEL[key], *others, "status", "model", *failures],
        *(
            line(
                row.algorithm,
                row.score,
                row.metrics,
                row.status,
                str(row.model_id),
                *(row.reason or "" for _ in failures),
            )
            for row in result.leaderboard
        ),
        line("baseline", result.baseline.get(key), result.baseline, "", "", *("" for _ in failures)),
    ]


def ranks(result: TrainResult, links: dict[int, str]) -> Lines:
    """Return the leaderboard with the columns that fit a run's page; `links` lead to the candidates' MLflow runs."""
    key = KEY_METRIC[result.task]

    def line(row: Candidate) -> list[str]:
        seconds = number(row.metrics.get("fit_time"))
        state = row.reason or row.status
        return [row.algorithm, number(row.score), seconds, state, str(row.model_id), links[row.model_id]]

    return [
        ["algorithm", METRIC_LABEL[key], "fit seconds", "status", "model", "MLflow"],
        *map(line, result.leaderboard),
        ["baseline", number(result.baseline.get(key)), "", "", "", ""],
    ]


def all_metrics(result: TrainResult) -> Lines:
    rows = [(row.algorithm, row.metrics) for row in result.leaderboard] + [("baseline", result.baseline)]
    names = _metrics(metrics for _, metrics in rows)
    return [["", *names], *([algorithm, *(number(metrics.get(name)) for name in names)] for algorithm, metrics in rows)]


def _metrics(rows: Iterable[dict[str, float]]) -> list[str]:
    return list(dict.fromkeys(name for metrics in rows for name in metrics))


def number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
