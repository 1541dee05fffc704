"""A fitted pipeline and how it answers: past its preprocessing, where that would leave the rows as they are."""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from registry.serving.features import Features
from registry.serving.inputs import aligned_with_values


class ServedPipeline:
    """A pipeline with the columns that it expects.

    Imputers fill missing values and leave finite numbers as they are, which takes them ten times as long as a linear
    model needs for a row. Where nothing else comes before the model and no value is missing, the model alone answers,
    for the numbers that they would have handed on.
    """

    def __init__(self, pipeline: Any, features: Features) -> None:
        self.pipeline, self.features = pipeline, features
        self._direct_input = _direct_input(pipeline, features)

    def prepare(self, rows: Any) -> "pd.DataFrame | np.ndarray[Any, Any]":
        """Return `rows` as `predict` takes them: a table for the pipeline, or an array for its model alone. Two of one
        kind can be answered together, one below the other.

        Raises:
            MissingColumns, BadRows: as `inputs.aligned` says.
        """
        table, values = aligned_with_values(rows, self.features)
        if values is None or self._direct_input is None:
            return table
        columns, integers = self._direct_input
        dtype = integers if integers and values.dtype.kind in "iu" else values.dtype.newbyteorder("=")
        # A copy as the pipeline would make it: the caller's rows stay the caller's, and some models write to theirs.
        return np.array(values[:, columns], dtype)

    def predict(self, X: "pd.DataFrame | np.ndarray[Any, Any]") -> Any:
        """Predict for rows that `prepare` returned, at least one."""
        return self._estimator_for(X).predict(X)

    def predict_proba(self, X: "pd.DataFrame | np.ndarray[Any, Any]") -> Any:
        """Predict class probabilities; the classifier must have them."""
        return self._estimator_for(X).predict_proba(X)

    def _estimator_for(self, X: Any) -> Any:
        return self.pipeline.steps[-1][1] if isinstance(X, np.ndarray) else self.pipeline


class DirectInput(NamedTuple):
    """How a model takes rows that its preprocessing leaves as they are: the order of the used columns, and the type
    that integers are converted to on the way (None: they are not).
    """

    columns: list[int] | slice
    integers: str | None


def _direct_input(pipeline: Any, features: Features) -> DirectInput | None:
    """Return None if a finite number could come to the model as another."""
    if [name for name, _ in getattr(pipeline, "steps", ())] != ["preprocessing", "model"] or not features.are_numbers:
        return None
    parts = [(each, names) for _, each, names in pipeline.steps[0][1].transformers_ if each != "drop"]
    if not all(_only_imputes(each) for each, _ in parts):
        return None
    number = {name: place for place, name in enumerate(features.names)}
    order = [number[name] for _, names in parts for name in names]
    # The others of its strategies keep them as they are.
    makes_floats = any(getattr(each, "strategy", "constant") not in ("constant", "most_frequent") for each, _ in parts)
    return DirectInput(slice(None) if order == sorted(order) else order, "float64" if makes_floats else None)


def _only_imputes(transformer: Any) -> bool:
    """Compare names of scikit-learn's types: no file with others is ever loaded, and `registry` does not import it."""
    kind = type(transformer).__name__
    if kind == "FunctionTransformer":
        return transformer.func is None  # "passthrough"
    missing = getattr(transformer, "missing_values", None)
    if kind != "SimpleImputer" or transformer.add_indicator or missing == missing:  # noqa: PLR0124  (NaN is not)
        return False
    return not np.isnan(transformer.statistics_.astype(float)).any()  # it leaves a column out that had no value
