"""The parameters of flows and commands, each defined once: its type, default, description and limits.

A flow's signature, Prefect's form, the command's options and the validation are all derived from these classes.
"""

from typing import Annotated, Any, Literal

from annotated_types import Ge, Le
from pydantic import AfterValidator, AllowInfNan, BeforeValidator, ValidationInfo, WithJsonSchema
from pydantic.dataclasses import dataclass

from registry.errors import BadHyperparameter
from registry.names import checked_name, checked_text
from tasks.estimators.algorithms import AlgorithmName
from tasks.validation import STRICT, Described

DEFAULT_TEST_SIZE = 0.25
MAX_STEPS = MAX_KEPT = 1_000_000  # in practice all
# Headings in the help of the command.
ROWS, CANDIDATES, DEPLOYMENT, PROMOTION = "Rows", "Candidates", "Deployment", "Promotion"


# --- types that several parameters share ------------------------------------------------------------------------------


def _name(value: object) -> str:
    return checked_name(value)


def _text(value: object, info: ValidationInfo) -> str:
    return checked_text(str(info.field_name), value)


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _column_names(value: Any) -> Any:
    if not value or not all(value):
        raise ValueError
    return value


def _share_or_count(value: float) -> float:
    if 0 < value < 1 or (value > 1 and value == int(value)):
        return value
    raise ValueError


Rows = Annotated[int | float, AllowInfNan(False), AfterValidator(_share_or_count), WithJsonSchema({"type": "number"})]
ByAlgorithm = dict[str, dict[str, Any]]

LiveProject = Annotated[str, BeforeValidator(_name), Described("The project whose live model is to change.")]
Algorithm = Annotated[
    AlgorithmName | None,
    BeforeValidator(_text),
    Described("Choose only among models of this algorithm, such as svm. If left out, among all models."),
]
DryRun = Annotated[bool, Described("Only report what would be done; change nothing.")]
Plan = Annotated[bool, Described("Only report which model would go live; change nothing.")]
ExpectedModel = Annotated[
    int | None,
    Described(
        "Deploy this model or none: the one that a plan named. If left out, whatever is chosen now.",
        "the model that a plan named, a number",
    ),
]
SpecificModel = Annotated[
    int | None, Described("The model to deploy. For the strategy specific only.", "the model to deploy, a number")
]
Force = Annotated[
    bool,
    Described("Deploy without proof that the model's file is whole and answers as it did at training. Needs a reason."),
]
Reason = Annotated[str | None, BeforeValidator(_text), Described("Why. The reason is kept in the history.")]


# --- the parameters of each flow, in the order of the contract --------------------------------------------------------


@dataclass(frozen=True, config=STRICT)
class TrainParameters:
    project_name: Annotated[str, BeforeValidator(_name), Described("The project. It is created by its first training.")]
    task: Annotated[
        Literal["regression", "classification"] | None,
        Described("What to predict: labels (classification) or numbers (regression). Only a new project needs it."),
    ] = None
    relation_name: Annotated[
        str | None,
        Described(
            "Where the rows are, as SOURCE:NAME: sklearn:digits, files:flights.parquet, warehouse:public.orders. "
            "If left out, the project's newest snapshot is trained on again.",
            "the name of a relation, SOURCE:NAME",
            panel=ROWS,
        ),
    ] = None
    y_column_name: Annotated[
        str | list[str] | None,
        BeforeValidator(_listed),
        AfterValidator(_column_names),
        Described(
            "The column to predict, or several of them for joint regression. Needed with a relation.",
            "the name of a column, or a list of them",
            panel=ROWS,
        ),
    ] = None
    algorithms: Annotated[
        list[AlgorithmName] | None,
        BeforeValidator(_listed),
        Described(
            "The algorithms to train. If left out, linear, random_forest and xgboost.",
            "a list of names",
            panel=CANDIDATES,
        ),
    ] = None
    hyperparams: Annotated[
        ByAlgorithm | None,
        Described(
            'Hyperparameters by algorithm, as JSON: {"svm": {"C": 10}}. The others keep their library\'s default.',
            "{algorithm: {parameter: value}}",
            BadHyperparameter,
            panel=CANDIDATES,
        ),
    ] = None
    search: Annotated[
        Literal["grid", "random", "optuna"] | None,
        Described(
            "How to search for better hyperparameters, by cross-validation on the training rows. optuna takes ranges "
            "and learns from its trials. If left out, nothing is searched.",
            panel=CANDIDATES,
        ),
    ] = None
    search_params: Annotated[
        dict[str, Any] | None,
        Described(
            'The values to try by algorithm, as JSON: {"svm": {"C": [1, 10]}}. optuna also takes ranges: '
            '{"xgboost": {"max_depth": {"low": 2, "high": 10}}}.',
            "{algorithm: {parameter: [values]}}",
            panel=CANDIDATES,
        ),
    ] = None
    search_args: Annotated[
        dict[str, Any] | None,
        Described(
            'Settings of the search, as JSON: {"cv": 5}. cv is the number of folds; n_iter is how many combinations '
            "a random search tries (10); n_trials (20) and timeout (seconds) limit optuna.",
            "{name: value}",
            panel=CANDIDATES,
        ),
    ] = None
    test_size: Annotated[
        Rows,
        Described(
            "The share of the rows to score on, or above 1 their number.",
            "a share between 0 and 1 or a count of at least 2 rows",
            panel=ROWS,
        ),
    ] = DEFAULT_TEST_SIZE
    test_sampling: Annotated[
        Literal["random", "stratified", "last"] | None,
        Described(
            "Which rows to score on; last takes the newest, at the end. If left out, stratified for classification "
            "and random for regression.",
            panel=ROWS,
        ),
    ] = None
    preprocess: Annotated[
        dict[str, Any] | None,
        Described(
            'How to prepare columns, as JSON: {"price": {"impute": "median", "scale": "standard"}}. Other columns '
            "are prepared by their type. impute: error, mean, median, mode, min, max, zero. encode: native, ordinal, "
            "one_hot, target. scale: preserve, standard, min_max, max_abs, robust.",
            "{column: {option: value}}",
            panel=ROWS,
        ),
    ] = None
    automatic_deploy: Annotated[
        bool,
        Described(
            "Deploy the best candidate if it beats the live model. Otherwise the run is only recorded.",
            panel=DEPLOYMENT,
        ),
    ] = True
    seed: Annotated[
        int,
        Ge(0),
        Le(2**32 - 1),
        Described(
            "Seed of the split and of every estimator that draws random numbers.",
            f"a whole number from 0 to {2**32 - 1}",
            panel=CANDIDATES,
        ),
    ] = 0
    compare: Annotated[
        Literal["same_rows", "recorded"],
        Described(
            "What is compared. same_rows: both models on test rows that neither was trained on. recorded: the scores "
            "of their trainings.",
            panel=PROMOTION,
        ),
    ] = "same_rows"
    min_improvement: Annotated[
        float,
        AllowInfNan(False),
        Ge(0),
        Described(
            "How much higher than the live model's the score has to be.", "a number of at least 0", panel=PROMOTION
        ),
    ] = 0.0
    confidence: Annotated[
        float | None,
        Ge(0.5),
        Le(0.999),
        Described(
            "How certain the improvement has to be, such as 0.95: a paired bootstrap of the compared rows, which "
            "corrects for choosing the best of several candidates. If left out, the scores alone count.",
            "a number from 0.5 to 0.999, as 0.95",
            panel=PROMOTION,
        ),
    ] = None
    must_beat_baseline: Annotated[
        bool,
        Described(
            "Require that the best candidate also beats scikit-learn's dummy: the most frequent label, or the mean.",
            panel=PROMOTION,
        ),
    ] = False


@dataclass(frozen=True, config=STRICT)
class DeployParameters:
    project_name: LiveProject
    strategy: Annotated[
        Literal["best_score", "most_recent", "rollback", "specific"],
        Described(
            "best_score: the highest key metric ever. most_recent: the newest trained model. rollback: the model that "
            "was live before this one. specific: the model of model_id."
        ),
    ] = "best_score"
    algorithm_name: Algorithm = None
    model_id: SpecificModel = None
    plan: Plan = False
    expect_model_id: ExpectedModel = None
    force: Force = False
    reason: Reason = None


@dataclass(frozen=True, config=STRICT)
class ChooseParameters:
    """The parameters of best_score and of most_recent."""

    project_name: LiveProject
    algorithm_name: Algorithm = None
    plan: Plan = False
    expect_model_id: ExpectedModel = None
    force: Force = False
    reason: Reason = None


@dataclass(frozen=True, config=STRICT)
class RollbackParameters:
    project_name: LiveProject
    algorithm_name: Annotated[
        AlgorithmName | None,
        BeforeValidator(_text),
        Described("Go back to the last live model of this algorithm, such as svm. If left out, of any algorithm."),
    ] = None
    steps: Annotated[
        int,
        Ge(1),
        Le(MAX_STEPS),
        Described(
            "How many models to go back, in the order in which they were last live.",
            "how many models to go back, 1 or more",
        ),
    ] = 1
    to_seq: Annotated[
        int | None,
        Described(
            "Go back to the model that this deployment made live, by its seq in the history.",
            "the seq of a deployment, as `frontrunner history` lists it",
        ),
    ] = None
    quarantine: Annotated[
        bool,
        Described("Keep the model that is live now from being chosen again until it is released. Needs a reason."),
    ] = False
    reason: Reason = None
    plan: Plan = False
    expect_model_id: ExpectedModel = None
    force: Force = False


@dataclass(frozen=True, config=STRICT)
class PredictParameters:
    project_name: Annotated[str, BeforeValidator(_name), Described("The project whose live model answers.")]
    relation_name: Annotated[
        str, Described("Where the rows are, as SOURCE:NAME: files:new.parquet, warehouse:public.orders.")
    ]
    output: Annotated[
        str,
        Described(
            "Where the rows are written with their predictions: files:scored.parquet, files:scored.csv, "
            "warehouse:public.scored."
        ),
    ]
    if_exists: Annotated[
        Literal["replace", "append"],
        Described("Replace what is there, or append to a table. A retry of the same run appends nothing twice."),
    ] = "replace"


@dataclass(frozen=True, config=STRICT)
class ReconcileParameters:
    project_name: Annotated[
        str | None, BeforeValidator(_name), Described("Only this project. If left out, every project.")
    ] = None
    dry_run: DryRun = False


@dataclass(frozen=True, config=STRICT)
class KeepParameters:
    """What a prune of a project keeps."""

    keep_deployments: Annotated[
        int,
        Ge(1),
        Le(MAX_KEPT),
        Described("How many of the newest deployments keep their models.", "a whole number, 1 or more"),
    ] = 10
    keep_models: Annotated[
        int,
        Ge(1),
        Le(MAX_KEPT),
        Described("How many of the newest trained models stay, and how many of the best.", "a whole number, 1 or more"),
    ] = 20
