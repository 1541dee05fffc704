"""The requests and responses of the service, in MLflow's scoring protocol. They define the OpenAPI page."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, StrictBool, model_validator

from registry.errors import BadRows
from registry.vocabulary import Task

FORMATS = ("dataframe_split", "dataframe_records", "instances", "inputs")


class Error(BaseModel):
    error: str = Field(description="What is wrong and how to fix it, in one line.")


class Split(BaseModel):
    columns: list[str]
    data: list[list[Any]]
    index: list[Any] | None = Field(None, description="Ignored.")


class Params(BaseModel):
    model_config = ConfigDict(extra="forbid")
    probabilities: StrictBool = Field(False, description="Probabilities of the classes instead of labels.")


class Rows(BaseModel):
    """The rows, in exactly one of four formats; columns are found by name, rows without names are in training order."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"dataframe_records": [{"Chins": 5, "Situps": 162, "Jumps": 60}]}]},
    )
    dataframe_split: Split | None = None
    dataframe_records: list[dict[str, Any]] | None = None
    instances: list[dict[str, Any]] | list[list[Any]] | None = None
    inputs: dict[str, list[Any]] | list[list[Any]] | None = None
    params: Params = Params()

    @model_validator(mode="after")
    def one_format(self) -> "Rows":
        if sum(getattr(self, name) is not None for name in FORMATS) != 1:
            raise ValueError(f"give the rows in exactly one of {', '.join(FORMATS)}")
        return self

    def table(self) -> Any:
        """Return the rows in a form that a Predictor takes."""
        if self.dataframe_split is None:
            return next(rows for name in FORMATS if (rows := getattr(self, name)) is not None)
        names, data = self.dataframe_split.columns, self.dataframe_split.data
        if len(set(names)) < len(names) or any(len(row) != len(names) for row in data):
            raise BadRows("dataframe_split needs distinct column names, and a value for each in every row")
        return {name: [row[number] for row in data] for number, name in enumerate(names)}


class ModelName(BaseModel):
    id: int
    algorithm: str
    seq: int = Field(description="The number of the deployment that made it live.")


class Predictions(BaseModel):
    predictions: list[Any] = Field(description="One for each row: a label, a number, or a list of targets.")
    model: ModelName
    classes: list[Any] | None = Field(None, description="The class of each column of probabilities.")


class FeatureColumn(BaseModel):
    name: str
    type: str


class Live(ModelName):
    project_name: str
    task: Task
    score: float
    y_column_names: list[str]
    features: list[FeatureColumn] = Field(description="In the order of rows without names.")


class Listed(BaseModel):
    project_name: str
    task: Task
    model_id: int | None = Field(description="The live model, or null.")
    algorithm_name: str | None
    score: float | None
    quarantine: str | None = Field(description="The reason why no strategy may choose that model, or null.")


class Health(BaseModel):
    status: str
