"""The columns that a model was trained on and therefore expects."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from registry.values import ModelRecord, SnapshotRecord

FLOATS = ("double", "float", "halffloat")  # as Arrow names them


@dataclass(frozen=True, slots=True)
class Feature:
    """A column as it was at training. `kind` is its Arrow type; if it is not `nullable`, missing values are refused.

    A column that is not `used` had no value at training and may be absent.
    """

    name: str
    kind: str
    used: bool
    nullable: bool

    @property
    def integers(self) -> str:
        """The numpy kinds of integers that need no conversion.

        An imputer of a constant refuses numbers that cannot be cast to its type at training: fractions to whole
        numbers, or signed to unsigned ones.
        """
        if self.kind in FLOATS:
            return ""
        return "iu" if self.kind.startswith("uint") else "i"

    @property
    def description(self) -> str:
        if self.kind == "string":
            return "text"
        return "dates" if self.kind.startswith("timestamp") else "numbers"


class Features(tuple[Feature, ...]):  # noqa: SLOT001  (cached properties need a dictionary)
    """The columns that a model expects, in the order of training, with values that every request needs."""

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
        """`names` as an Index, from which pandas makes a table several times as fast as from a list."""
        columns = pd.Index(self.names)
        assert columns.is_unique  # pandas caches this without a lock, so compute it before threads share the Index
        return columns


def features(snapshot: SnapshotRecord, model: ModelRecord) -> Features:
    """Return the columns that a model of this snapshot expects."""
    return Features(
        Feature(
            column["name"],
            column["type"],
            used=model.preprocessing[column["name"]]["encode"] != "dropped",
            nullable=model.preprocessing[column["name"]].get("impute") != "error",
        )
        for column in snapshot.columns
        if column["name"] not in snapshot.y_column_names
    )
