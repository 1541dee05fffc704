"""The yardstick of `long`: joblib_loop.py ROWS.parquet HYPERPARAMS THREADS, {algorithm: {parameter: value}}."""

# ruff: noqa: ANN001, ANN201  (as people write it)

import json
import sys

import pandas as pd
from joblib import Parallel, cpu_count, delayed
from sklearn.ensemble import (
    AdaBoostRegressor,
    BaggingRegressor,
    ExtraTreesRegressor,
    GradientBoostingRegressor,
    HistGradientBoostingRegressor,
    RandomForestRegressor,
)
from sklearn.metrics import r2_score
from sklearn.model_selection import train_test_split
from xgboost import XGBRegressor, XGBRFRegressor

ESTIMATORS = {
    "ada_boost": AdaBoostRegressor,
    "bagging": BaggingRegressor,
    "extra_trees": ExtraTreesRegressor,
    "gradient_boosting_trees": GradientBoostingRegressor,
    "hist_gradient_boosting": HistGradientBoostingRegressor,
    "random_forest": RandomForestRegressor,
    "xgboost": XGBRegressor,
    "xgboost_random_forest": XGBRFRegressor,
}


def scored(name, hyperparams, threads, X_train, X_test, y_train, y_test):
    model = ESTIMATORS[name](random_state=0, **hyperparams)
    if "n_jobs" in model.get_params():
        model.set_params(n_jobs=threads)
    model.fit(X_train, y_train)
    return name, r2_score(y_test, model.predict(X_test))


def main(path, hyperparams, threads):
    frame = pd.read_parquet(path)
    rows = train_test_split(
        frame.drop(columns="target").to_numpy(), frame["target"].to_numpy(), test_size=0.25, random_state=0
    )
    work = (delayed(scored)(name, chosen, threads, *rows) for name, chosen in hyperparams.items())
    print(json.dumps(dict(Parallel(n_jobs=cpu_count())(work))))


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3]))
