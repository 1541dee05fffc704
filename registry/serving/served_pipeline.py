"""A fitted pipeline and how it is asked: past its preprocessing, where that would leave the rows as they are."""

from typing import TYPE_CHECKING, Any, NamedTuple

from registry.serving.inputs import Features, aligned_with_values

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


class ServedPipeline:
    """A pipeline with the columns that it is asked with.

    Imputers fill gaps and leave finite numbers as they are, which takes them ten times as long as a linear model needs
    for a row. Where nothing else comes before the model and there are no gaps, the model alone is asked, with the
    numbers that they would have handed on.
    """

    def __init__(self, pipeline: Any, features: Features) -> None:
        self.pipeline, self.features = pipeline, features
        self._taken = _taken(pipeline, features)

    def prepared(self, rows: Any) -> "pd.DataFrame | np.ndarray[Any, Any]":
        """`rows` as `predict` wants them: a table for the pipeline, or an array for its model alone. Two that are of
        one kind can be asked for together, one below the other.

        Raises:
            MissingColumns, BadRows: as `registry.inputs.aligned` says.
        """
        import numpy as np

        table, values = aligned_with_values(rows, self.features)
        if values is None or self._taken is None:
            return table
        columns, integers = self._taken
        dtype = integers if integers and values.dtype.kind in "iu" else values.dtype.newbyteorder("=")
        # A copy as the pipeline would make it: the caller's rows stay the caller's, and some models want to be able to
        # write.
        return np.array(values[:, columns], dtype)

    def predict(self, X: "pd.DataFrame | np.ndarray[Any, Any]") -> Any:
        """What the pipeline answers for rows that are `prepared`, at least one."""
        return self._asked(X).predict(X)

    def predict_proba(self, X: "pd.DataFrame | np.ndarray[Any, Any]") -> Any:
        """Likewise, of a classifier that has them."""
        return self._asked(X).predict_proba(X)

    def _asked(self, X: Any) -> Any:
        import numpy as np

        return self.pipeline.steps[-1][1] if isinstance(X, np.ndarray) else self.pipeline


class _Taken(NamedTuple):
    """How a model takes rows that its preprocessing leaves as they are: the order of the columns that are used, and
    what integers become on the way (None: nothing else).
    """

    columns: list[int] | slice
    integers: str | None


def _taken(pipeline: Any, features: Features) -> _Taken | None:
    """None if a finite number could come to the model as another."""
    if [name for name, _ in getattr(pipeline, "steps", ())] != ["preprocessing", "model"] or not features.are_numbers:
        return None
    parts = [(each, names) for _, each, names in pipeline.steps[0][1].transformers_ if each != "drop"]
    if not all(_fills_gaps_alone(each) for each, _ in parts):
        return None
    number = {name: place for place, name in enumerate(features.names)}
    order = [number[name] for _, names in parts for name in names]
    # The others of its strategies keep them as they are.
    makes_floats = any(getattr(each, "strategy", "constant") not in ("constant", "most_frequent") for each, _ in parts)
    return _Taken(slice(None) if order == sorted(order) else order, "float64" if makes_floats else None)


def _fills_gaps_alone(transformer: Any) -> bool:
    """By the names of scikit-learn's types: no file with others is ever loaded, and `registry` does not import it."""
    kind = type(transformer).__name__
    if kind == "FunctionTransformer":
        return transformer.func is None  # "passthrough"
    missing = getattr(transformer, "missing_values", None)
    if kind != "SimpleImputer" or transformer.add_indicator or missing == missing:  # noqa: PLR0124  (NaN is not)
        return False
    import numpy as np

    return not np.isnan(transformer.statistics_.astype(float)).any()  # it leaves a column out that had no value
