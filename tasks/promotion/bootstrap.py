"""The confidence interval of an improvement: a paired bootstrap of the key metric on the compared rows.

Every resample draws n of the n rows with replacement, and measures each model on the same draw. Classification: rows
that agree in the truth and in every prediction form a cell. Drawing the cells' counts from a multinomial is equivalent
to drawing rows, and its cost does not grow with their number. Regression: the count of each row is drawn independently
from a Poisson distribution of mean 1, so that the size of a resample varies a little (Chamandy et al., 2012).

The challenger is the best of K candidates on these rows, which biases its difference upwards. Its lower limit is
therefore White's (2000): in every resample each candidate's difference is centred at its own measured one, and the
largest is taken.
"""

from typing import Any

import numpy as np

from registry.vocabulary import Task

RESAMPLES = 2000
CHUNK_COUNTS = 4_000_000  # in memory at a time
MAX_MULTINOMIAL_CELLS = 5_000
MAX_DENSE_LABELS = 50

Numbers = np.ndarray[Any, np.dtype[np.float64]]


def interval(
    task: Task, y: Any, live: Any, candidates: list[Any], challenger: int, labels: Any, confidence: float, seed: int
) -> tuple[float, float]:
    """Return the confidence interval of the challenger's key metric minus the live model's.

    `y`, `live` and each candidate have n labels or numbers, or n × k numbers. `challenger` is its index among the
    candidates; `labels` are all that could be predicted. The limits are NaN if no resample has a score.
    """
    draw = np.random.default_rng(seed)
    scores = _r2 if task is Task.REGRESSION else _f1
    measured, resampled = scores(y, [live, *candidates], labels, draw)
    differences = measured[1:] - measured[0]
    spread = (resampled[:, 1:] - resampled[:, :1]) - differences
    spread = spread[np.isfinite(spread).all(axis=1)]  # a resample of equal numbers has no R2
    if not len(spread):
        return np.nan, np.nan
    tail = (1 - confidence) / 2
    own = differences[challenger]
    low = own - np.quantile(spread.max(axis=1), 1 - tail)
    high = own - np.quantile(spread[:, challenger], tail)
    return float(low), float(high)


def _f1(y: Any, predictions: list[Any], labels: Any, draw: np.random.Generator) -> tuple[Numbers, Numbers]:
    """Return the F1 scores of M predictions, and those of the resamples (RESAMPLES × M).

    The score of two labels is that of the larger one, that of more labels is their mean.
    """
    codes = np.column_stack([np.searchsorted(labels, each) for each in (y, *predictions)])
    cells, counts = np.unique(codes, axis=0, return_counts=True)
    columns = _tallies(cells, len(labels))
    if len(cells) <= MAX_MULTINOMIAL_CELLS:
        resampled = draw.multinomial(counts.sum(), counts / counts.sum(), RESAMPLES) @ columns
    else:
        resampled = _resampled_sums(columns[np.repeat(np.arange(len(cells)), counts)], draw)
    sums = np.vstack([counts @ columns, resampled]).astype(float).reshape(-1, 2, len(predictions), len(labels))
    hits, of = sums[:, 0], sums[:, 1]
    if len(labels) == 2:
        hits, of = hits[:, :, 1:], of[:, :, 1:]
    each = np.divide(2 * hits, of, out=np.zeros_like(hits), where=of > 0)
    # As in scikit-learn, a label that is neither true nor predicted does not count in the mean.
    scores = each.sum(axis=2) / np.maximum((of > 0).sum(axis=2), 1)
    return scores[0], scores[1:]


def _tallies(cells: Any, labels: int) -> Any:
    """Return what a row of each cell adds for each model and label, as cells × (2 · M · labels).

    The first half counts the hits of a label, the second how often it is true plus how often it is predicted. Twice
    the sum of the first divided by the sum of the second is the label's F1. The counts are small integers, which
    float32 adds exactly. The matrix is sparse if there are many labels.
    """
    from scipy.sparse import coo_matrix  # heavy: only a comparison with a confidence needs it

    models = cells.shape[1] - 1
    row, model = np.indices((len(cells), models)).reshape(2, -1)
    true, predicted = np.repeat(cells[:, 0], models), cells[:, 1:].ravel()
    hit = true == predicted
    met = (models + model) * labels
    column = np.concatenate([(model * labels + true)[hit], met + true, met + predicted])
    shape = (len(cells), 2 * models * labels)
    ones = np.ones(len(column), np.float32)
    tallies = coo_matrix((ones, (np.concatenate([row[hit], row, row]), column)), shape).tocsr()
    return tallies.toarray() if labels <= MAX_DENSE_LABELS else tallies


def _r2(y: Any, predictions: list[Any], _labels: Any, draw: np.random.Generator) -> tuple[Numbers, Numbers]:
    """Return the R2 scores as `_f1` does; each is the mean over the targets."""
    truth = np.asarray(y, float).reshape(len(y), -1)
    truth = truth - truth.mean(axis=0)
    targets = truth.shape[1]
    errors = [
        (np.asarray(each, float).reshape(len(y), -1) - np.asarray(y, float).reshape(len(y), -1)) ** 2
        for each in predictions
    ]
    columns = np.hstack([np.ones((len(y), 1)), truth, truth**2, *errors])
    sums = np.vstack([columns.sum(axis=0), _resampled_sums(columns, draw)])
    rows, first, second = sums[:, :1], sums[:, 1 : 1 + targets], sums[:, 1 + targets : 1 + 2 * targets]
    around = second - first**2 / rows
    around[around <= 1e-12 * second] = np.nan  # all values are equal, except for rounding
    residual = sums[:, 1 + 2 * targets :].reshape(len(sums), len(predictions), targets)
    with np.errstate(divide="ignore", invalid="ignore"):
        scores = (1 - residual / around[:, None, :]).mean(axis=2)
    return scores[0], scores[1:]


def _resampled_sums(columns: Any, draw: np.random.Generator) -> Any:
    """Return the sums of the columns over resampled rows (RESAMPLES × columns)."""
    rows = columns.shape[0]
    chunk, table = max(1, CHUNK_COUNTS // rows), _POISSON.astype(columns.dtype)
    return np.vstack(
        [
            table[draw.integers(0, 2**16, (min(chunk, RESAMPLES - start), rows), np.uint16)] @ columns
            for start in range(0, RESAMPLES, chunk)
        ]
    )


def _poisson_table() -> Numbers:
    """Return Poisson counts for 2^16 equally likely numbers; their shares are exact to 1 / 2^16."""
    shares = np.cumsum([np.exp(-1.0) / np.prod(np.arange(1.0, count + 1)) for count in range(9)])
    return np.searchsorted(shares, (np.arange(2**16) + 0.5) / 2**16).astype(float)


_POISSON = _poisson_table()
