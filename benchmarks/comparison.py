"""What a comparison costs beside one bare prediction of the live model on the same rows.

In an empty folder: python -m benchmarks.comparison [rows]
"""

import sys
from pathlib import Path
from time import perf_counter

import numpy as np
import pandas as pd

from flows.train import train
from registry import queries
from registry.serving.artifacts import load_pipeline
from registry.values import ModelRecord, Terms
from registry.vocabulary import Task
from tasks.data import frozen_rows
from tasks.data import predicted as predicted_module
from tasks.estimators.scoring import predictions
from tasks.promotion import comparison


def main(rows: int) -> None:
    draw = np.random.default_rng(0)
    X = draw.normal(size=(2 * rows, 10))
    frame = pd.DataFrame(X, columns=[f"x{column}" for column in range(10)])
    frame["sold"] = X @ np.arange(10) + draw.normal(size=2 * rows)
    Path("data").mkdir(exist_ok=True)
    for number, part in enumerate((frame[:rows], frame[rows // 10 :][:rows])):
        part.to_parquet("data/rows.parquet")
        asked = {"algorithms": ["random_forest"], "hyperparams": {"random_forest": {"n_estimators": 20}}}
        train("bench", "regression", "files:rows.parquet", "sold", **asked, automatic_deploy=number == 0)
    challenger, live = queries.models("bench")
    with frozen_rows.rows_kept(), predicted_module.predictions_kept():
        found = frozen_rows.rows(queries.snapshot(challenger.snapshot_id))  # as after a training
        predicted_module.remember(challenger.id, predictions(load_pipeline(comparison.saved(challenger)), found.X_test))
        started = perf_counter()
        pipeline = load_pipeline(comparison.saved(live))
        loaded = perf_counter()
        predictions(pipeline, found.X_test)
        predicted = perf_counter()
        print(f"{len(found.X_test):,} test rows; load {loaded - started:.2f} s, predict {predicted - loaded:.2f} s")
        for terms in (Terms(), Terms(confidence=0.95)):
            tell(challenger, live, terms)


def tell(challenger: ModelRecord, live: ModelRecord, terms: Terms) -> None:
    started = perf_counter()
    evidence = comparison.compare(Task.REGRESSION, challenger, live, [challenger], terms)
    print(f"{terms.confidence or 'no'} confidence: {perf_counter() - started:.2f} s, {evidence}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 400_000)
