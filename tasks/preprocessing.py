"""Columns to numbers by their type, as one ColumnTransformer inside the model's pipeline, fitted on training rows."""

from typing import Any

import pandas as pd
from pandas.api import types
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.model_selection import KFold
from sklearn.preprocessing import OneHotEncoder, TargetEncoder

from registry.vocabulary import Task

ONE_HOT_CATEGORIES = 20  # a text column with more categories than this is target-encoded


def preprocessor(task: Task, X_train: pd.DataFrame, *, takes_gaps: bool, seed: int) -> ColumnTransformer:
    """The defaults: nothing is scaled; text is one-hot or cross-fitted target encoded; a new category is no error.

    Numeric gaps stay where the estimator takes them (`takes_gaps`), else they become the training rows' median. A
    column without a single value is left out. Columns are found by name, in whatever order they come.
    """
    named = {"numeric": [], "one_hot": [], "target": []}  # type: dict[str, list[str]]
    for name, column in X_train.items():
        if not column.isna().all():
            named[_kind(column)].append(str(name))
    steps: dict[str, Any] = {
        "numeric": "passthrough" if takes_gaps else SimpleImputer(strategy="median"),
        "one_hot": OneHotEncoder(handle_unknown="ignore", sparse_output=False),
        "target": TargetEncoder(
            target_type="continuous" if task is Task.REGRESSION else "auto",
            cv=KFold(min(5, len(X_train)), shuffle=True, random_state=seed),
        ),
    }
    return ColumnTransformer(
        [(kind, steps[kind], columns) for kind, columns in named.items() if columns], verbose_feature_names_out=False
    )


def _kind(column: "pd.Series[Any]") -> str:
    if types.is_numeric_dtype(column.dtype):
        return "numeric"
    return "one_hot" if column.nunique() <= ONE_HOT_CATEGORIES else "target"
