"""Tables of results as lines of cells, the first line the head; a number that is not known is an empty cell."""

from registry.values import ModelRecord
from registry.vocabulary import KEY_METRIC, METRIC_LABEL
from tasks.reporting.results import Candidate, TrainResult

Lines = list[list[str]]


def leaderboard(result: TrainResult) -> Lines:
    """Return every metric of every candidate, for the terminal."""
    key = KEY_METRIC[result.task]
    others = list(dict.fromkeys(name for row in result.leaderboard for name in row.metrics if name != key))
    failures = ["reason"] if any(row.reason for row in result.leaderboard) else []

    def line(name: str, metrics: dict[str, float], score: float | None, *more: str) -> list[str]:
        return [name, number(score), *(number(metrics.get(other)) for other in others), *more]

    return [
        ["algorithm", METRIC_LABEL[key], *others, "status", "model", *failures],
        *(
            line(
                row.algorithm,
                row.metrics,
                row.score,
                row.status,
                str(row.model_id),
                *([row.reason or ""] * len(failures)),
            )
            for row in result.leaderboard
        ),
        line("baseline", result.baseline, result.baseline.get(key), "", "", *([""] * len(failures))),
    ]


def ranks(result: TrainResult, links: dict[int, str]) -> Lines:
    """Return the leaderboard as a run's page has room for it; `links` are to the candidates' MLflow runs."""
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
    names = list(dict.fromkeys(name for _, metrics in rows for name in metrics))
    return [
        ["", *names],
        *([algorithm, *(number(metrics.get(name)) for name in names)] for algorithm, metrics in rows),
    ]


def models_table(models: list[tuple[str, ModelRecord]]) -> Lines:
    """Return models, each with what it is to the reader, such as "was live"."""
    return [
        ["", "model", "algorithm", "score", "snapshot", "trained at"],
        *(
            [
                state,
                str(model.id),
                model.algorithm,
                number(model.score),
                str(model.snapshot_id),
                f"{model.finished_at:%Y-%m-%d %H:%M} UTC" if model.finished_at else "",
            ]
            for state, model in models
        ),
    ]


def number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
