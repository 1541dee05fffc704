"""The columns that a model was trained on, and so the ones that it expects."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from registry.values import ModelRecord, SnapshotRecord

FLOATS = ("double", "float", "halffloat")  # as Arrow names them


@dataclass(frozen=True, slots=True)
class Feature:
    """A column as it was at training: `kind` is its Arrow type; a missing value is refused where `gaps` is False.

    A column that is not `used` had no value then; it may be absent now.
    """

    name: str
    kind: str
    used: bool
    gaps: bool

    @property
    def integers(self) -> str:
        """numpy's kinds of integers that are used unconverted; an imputer of a constant refuses numbers that its type
        at training cannot be cast to: fractions to whole numbers, signed ones to unsigned.
        """
        if self.kind in FLOATS:
            return ""
        return "iu" if self.kind.startswith("uint") else "i"

    @property
    def description(self) -> str:
        if self.kind == "string":
            return "text"
        return "dates" if self.kind.startswith("timestamp") else "numbers"


class Features(tuple[Feature, ...]):  # noqa: SLOT001  (cached properties want a dictionary)
    """The columns that a model expects, in the order of training, and what would be computed again for each request."""

    @cached_property
    def used(self) -> list[Feature]:
        return [feature for feature in self if feature.used]

    @cached_property
    def names(self) -> list[str]:
        """The names of the used columns."""
        return [feature.name for feature in self.used]

    @cached_property
    def are_numbers(self) -> bool:
        return all(feature.description == "numbers" for feature in self.used)

    @cached_property
    def integers(self) -> str:
        """The kinds of integers that every used column takes unconverted."""
        return min((feature.integers for feature in self.used), key=len, default="")

    @cached_property
    def columns(self) -> "pd.Index[Any]":
        """`names` for pandas, which makes a table with them several times as fast as with a list."""
        columns = pd.Index(self.names)
        assert columns.is_unique  # and pandas, which locks nothing, has found out before threads share it
        return columns


def features(snapshot: SnapshotRecord, model: ModelRecord) -> Features:
    """Return the columns that a model of this snapshot expects."""
    return Features(
        Feature(
            column["name"],
            column["type"],
            used=model.preprocessing[column["name"]]["encode"] != "dropped",
            gaps=model.preprocessing[column["name"]].get("impute") != "error",
        )
        for column in snapshot.columns
        if column["name"] not in snapshot.y_column_names
    )
