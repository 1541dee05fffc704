"""A fitted pipeline for serving. It skips preprocessing that would not change the rows."""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from registry.serving.features import Features
from registry.serving.inputs import aligned_with_values


class ServedPipeline:
    """A pipeline with the columns that it expects.

    Imputers do not change finite numbers, but need far longer for a row than a linear model does. If there are only
    imputers before the model and no value is missing, the model answers alone, for the numbers that the imputers would
    have passed on.
    """

    def __init__(self, pipeline: Any, features: Features) -> None:
        self.pipeline, self.features = pipeline, features
        self._direct_input = _direct_input(pipeline, features)

    def prepare(self, rows: Any) -> "pd.DataFrame | np.ndarray[Any, Any]":
        """Return `rows` as `predict` takes them: a table for the pipeline, or an array for its model alone.

        Several results of one kind can be concatenated and answered together. Raises: as `inputs.aligned`.
        """
        table, values = aligned_with_values(rows, self.features)
        if values is None or self._direct_input is None:
            return table
        columns, integers = self._direct_input
        dtype = integers if integers and values.dtype.kind in "iu" else values.dtype.newbyteorder("=")
        # A copy, as the pipeline would make it, because some models write to their input.
        return np.array(values[:, columns], dtype)

    def predict(self, X: "pd.DataFrame | np.ndarray[Any, Any]") -> Any:
        """Predict for at least one row that `prepare` returned."""
        return self._estimator_for(X).predict(X)

    def predict_proba(self, X: "pd.DataFrame | np.ndarray[Any, Any]") -> Any:
        """Predict class probabilities; the classifier must support them."""
        return self._estimator_for(X).predict_proba(X)

    def _estimator_for(self, X: Any) -> Any:
        return self.pipeline.steps[-1][1] if isinstance(X, np.ndarray) else self.pipeline


class DirectInput(NamedTuple):
    """The order of the used columns as the model expects them, and the type that integers become, None if unchanged."""

    columns: list[int] | slice
    integers: str | None


def _direct_input(pipeline: Any, features: Features) -> DirectInput | None:
    """Return None if preprocessing could change a finite number."""
    if [name for name, _ in getattr(pipeline, "steps", ())] != ["preprocessing", "model"] or not features.are_numbers:
        return None
    parts = [(each, names) for _, each, names in pipeline.steps[0][1].transformers_ if each != "drop"]
    if not all(_only_imputes(each) for each, _ in parts):
        return None
    positions = {name: position for position, name in enumerate(features.names)}
    order = [positions[name] for _, names in parts for name in names]
    # Imputers with these two strategies keep integers.
    makes_floats = any(getattr(each, "strategy", "constant") not in ("constant", "most_frequent") for each, _ in parts)
    return DirectInput(slice(None) if order == sorted(order) else order, "float64" if makes_floats else None)


def _only_imputes(transformer: Any) -> bool:
    """Compare names of types, because `registry` does not import scikit-learn; other types are never loaded."""
    kind = type(transformer).__name__
    if kind == "FunctionTransformer":
        return transformer.func is None  # "passthrough"
    missing = getattr(transformer, "missing_values", None)
    if kind != "SimpleImputer" or transformer.add_indicator or missing == missing:  # noqa: PLR0124  (NaN is not)
        return False
    return not np.isnan(transformer.statistics_.astype(float)).any()  # the imputer drops a column without any value
