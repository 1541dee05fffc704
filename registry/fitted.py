"""A fitted pipeline and how it is asked: past its preprocessing, where that would leave the rows as they are."""

from typing import TYPE_CHECKING, Any, NamedTuple

from registry.inputs import Features, aligned_with_values

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


class Fitted:
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
        dtype = self._taken.integers if values.dtype.kind in "iu" else None
        return np.asarray(values[:, self._taken.columns], dtype)

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

    columns: Any
    integers: "np.dtype[Any] | None"


def _taken(pipeline: Any, features: Features) -> _Taken | None:
    """None if a finite number could come to the model as another."""
    if [name for name, _ in getattr(pipeline, "steps", ())] != ["preprocessing", "model"] or not features.are_numbers:
        return None
    preprocessing = pipeline.steps[0][1]
    if not all(_fills_gaps_alone(each) for _, each, _ in preprocessing.transformers_ if each != "drop"):
        return None
    import numpy as np
    import pandas as pd

    numbers = np.arange(len(features.used), dtype=np.float64 if features.have_fractions else np.int64)
    row = np.asarray(preprocessing.transform(pd.DataFrame([numbers], columns=features.columns)))
    columns = slice(None) if np.array_equal(row[0], numbers) else row[0].astype(int)
    return _Taken(columns, None if row.dtype == numbers.dtype else row.dtype)


def _fills_gaps_alone(transformer: Any) -> bool:
    """By the names of scikit-learn's types: no file with others is ever loaded, and `registry` does not import it."""
    kind = type(transformer).__name__
    if kind == "FunctionTransformer":
        return transformer.func is None  # "passthrough"
    if kind != "SimpleImputer" or transformer.add_indicator:
        return False
    import numpy as np

    return not np.isnan(transformer.statistics_.astype(float)).any()  # it leaves a column out that had no value
