"""The command line: the flows by name, and what an operator does. Heavy imports wait until a command needs them."""

import json
import logging
import os
import signal
import sys
import warnings
from dataclasses import asdict
from importlib import import_module
from typing import Annotated, Any, NoReturn, cast
from uuid import uuid4

import typer

from flows.cli import operate, show, transfer
from flows.cli.options import Algorithm, AsJson, Expect, Force, ModelId, Name, NameOption, Plan, Reason, project_of
from flows.cli.output import print_json, print_table
from flows.cli.show import flat
from flows.local import environment, prefect_server
from flows.local.importing import without_gc
from registry import settings
from registry.errors import FrontrunnerError, PrefectRefused, PrefectUnavailable, without_credentials
from registry.serving.artifacts import bound_mlflow
from registry.timeouts import exit_process, skip_teardown

app = typer.Typer(
    name="frontrunner",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _tell_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"frontrunner {version('frontrunner')}")
        raise typer.Exit


@app.callback()
def every_command(
    _version: Annotated[
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Say the version and exit.")
    ] = False,
) -> None:
    """Train candidates, deploy the better model by itself, roll back by hand."""


app.add_typer(show.app)
app.add_typer(operate.app)
app.add_typer(transfer.app)

# Prefect as a command wants it: nothing calls home, our progress goes to the run's log, and the terminal is ours.
PREFECT_DEFAULTS = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_LOGGING_EXTRA_LOGGERS": "frontrunner",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
}

# What a training imports in the course of its run. A command imports it while its Prefect server starts.
IMPORTED_LATER = (
    "mlflow.store.artifact.local_artifact_repo",
    "mlflow.store.tracking.sqlalchemy_workspace_store",
    "prefect.flow_engine",
    "prefect.task_engine",
    "skops.io",
    "tasks.estimators.preprocessing",
    "tasks.estimators.scoring",
)


def main() -> NoReturn:
    """Exit codes: 0; 1 for an error of ours, in one line; 2 for usage."""
    skip_teardown()
    if sys.argv[1:2] == ["train"]:
        set_defaults()
    else:
        _default(environment.of_running())
    _listen()
    try:
        app()
    except FrontrunnerError as error:
        print(f"error: {error}", file=sys.stderr)
        exit_process(1)
    except SystemExit as end:
        exit_process(end.code)
    exit_process(0)


@app.command()
def train(
    name: Name = None,
    project_name: NameOption = None,
    task: Annotated[str | None, typer.Option(help="classification or regression; for a new project.")] = None,
    relation_name: Annotated[
        str | None,
        typer.Option(help="sklearn:digits, files:flights.parquet, warehouse:public.orders; none: the newest snapshot."),
    ] = None,
    y_column_name: Annotated[
        list[str] | None, typer.Option(help="The column to predict; several for joint regression.")
    ] = None,
    algorithms: Annotated[
        list[str] | None, typer.Option(help="Repeat it, or separate by commas; none: linear, random_forest, xgboost.")
    ] = None,
    hyperparams: Annotated[str | None, typer.Option(help='JSON: {"svm": {"C": 10}}')] = None,
    search: Annotated[str | None, typer.Option(help="grid, random or optuna: look for better hyperparameters.")] = None,
    search_params: Annotated[
        str | None, typer.Option(help='JSON: {"svm": {"C": [1, 10]}}; for optuna also {"low": 1, "high": 10}.')
    ] = None,
    search_args: Annotated[
        str | None, typer.Option(help='JSON: {"cv": 5}, n_iter for random, n_trials and timeout for optuna.')
    ] = None,
    test_size: Annotated[float, typer.Option(help="Share of the rows to score on, or above 1 their count.")] = 0.25,
    test_sampling: Annotated[
        str | None, typer.Option(help="stratified, random or last; none: stratified, or random for regression.")
    ] = None,
    preprocess: Annotated[
        str | None,
        typer.Option(help='JSON: {"price": {"impute": "median", "scale": "standard"}, "city": {"encode": "target"}}'),
    ] = None,
    automatic_deploy: Annotated[bool, typer.Option(help="Deploy the best if it beats the live model.")] = True,
    seed: Annotated[int, typer.Option(help="For the split and the estimators.")] = 0,
    compare: Annotated[
        str, typer.Option(help="same_rows: both models on rows that neither was trained on; or recorded scores.")
    ] = "same_rows",
    min_improvement: Annotated[float, typer.Option(help="How much higher the score has to be.")] = 0.0,
    confidence: Annotated[
        float | None, typer.Option(help="How sure the improvement has to be, as 0.95; none: the scores alone count.")
    ] = None,
    must_beat_baseline: Annotated[
        bool, typer.Option("--must-beat-baseline", help="Deploy nothing that does not beat scikit-learn's dummy.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Train candidates and deploy the best one if it beats the live model.

    - `frontrunner train digits --task classification --relation-name sklearn:digits --y-column-name target`
    - `frontrunner train digits --algorithms svm,extra_trees` trains on the same rows again
    - `frontrunner train digits --algorithms svm --search grid --search-params '{"C": [1, 10]}'`
    """
    project = project_of(name, project_name)
    asked = {
        "relation_name": relation_name,
        "y_column_name": _one_or_more(_separated(y_column_name)),
        "algorithms": _separated(algorithms),
        "hyperparams": _json_object("--hyperparams", hyperparams),
        "search": search,
        "search_params": _json_object("--search-params", search_params),
        "search_args": _json_object("--search-args", search_args),
        "test_size": int(test_size) if test_size > 1 and test_size == int(test_size) else test_size,
        "test_sampling": test_sampling,
        "preprocess": _json_object("--preprocess", preprocess),
        "automatic_deploy": automatic_deploy,
        "seed": seed,
        "compare": compare,
        "min_improvement": min_improvement,
        "confidence": confidence,
        "must_beat_baseline": must_beat_baseline,
    }
    server = prefect_server.begin()
    if server:
        log = logging.getLogger("frontrunner")
        log.info("starting a temporary Prefect server; set PREFECT_API_URL to use one that runs")
    with without_gc():
        if not settings.candidates_on():
            from tasks.training import processes

            processes.start_server()  # before Prefect's imports, beside which its own go on
        from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

        from flows.train import train as flow
        from tasks.reporting.reports import leaderboard

        for module in IMPORTED_LATER:
            import_module(module)
    if server:
        server.wait()
    else:
        _check_prefect()
    signal.signal(signal.SIGTERM, _end)
    # Who has a command in front of them sees it end, and would wait a second for its heartbeat to do so.
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        # The values are checked there, so that every way in gives the same answer.
        result = flow(project, cast("Any", task), **cast("dict[str, Any]", asked))
    if as_json:
        print_json(result)
    else:
        head, *rows = leaderboard(result)
        print_table(head, rows)
        print(f"{'deployed' if result.deployed else 'not deployed'}: {result.reason}")


@app.command()
def deploy(
    name: Name = None,
    project_name: NameOption = None,
    strategy: Annotated[
        str | None, typer.Option(help="best_score (the default), most_recent, rollback, or specific with --model-id.")
    ] = None,
    algorithm_name: Algorithm = None,
    model_id: Annotated[int | None, typer.Option(help="This model, whatever its score.")] = None,
    plan: Plan = False,
    expect_model_id: Expect = None,
    force: Force = False,
    reason: Reason = None,
    as_json: AsJson = False,
) -> None:
    """Make the model that a strategy chooses live, or a specific one.

    - `frontrunner deploy digits --strategy most_recent --algorithm-name svm`
    - `frontrunner deploy digits --model-id 7`
    - `frontrunner deploy digits --plan` says what would go live
    """
    chosen = strategy or ("best_score" if model_id is None else "specific")
    asked = {"model_id": model_id, "plan": plan, "expect_model_id": expect_model_id, "force": force, "reason": reason}
    _deploy(project_of(name, project_name), chosen, algorithm_name, asked, as_json)


@app.command()
def best_score(
    name: Name = None,
    project_name: NameOption = None,
    algorithm_name: Algorithm = None,
    plan: Plan = False,
    expect_model_id: Expect = None,
    force: Force = False,
    reason: Reason = None,
    as_json: AsJson = False,
) -> None:
    """Make the trained model with the highest key metric live."""
    asked = {"plan": plan, "expect_model_id": expect_model_id, "force": force, "reason": reason}
    _deploy(project_of(name, project_name), "best_score", algorithm_name, asked, as_json)


@app.command()
def most_recent(
    name: Name = None,
    project_name: NameOption = None,
    algorithm_name: Algorithm = None,
    plan: Plan = False,
    expect_model_id: Expect = None,
    force: Force = False,
    reason: Reason = None,
    as_json: AsJson = False,
) -> None:
    """Make the newest trained model live."""
    asked = {"plan": plan, "expect_model_id": expect_model_id, "force": force, "reason": reason}
    _deploy(project_of(name, project_name), "most_recent", algorithm_name, asked, as_json)


@app.command()
def rollback(
    name: Name = None,
    project_name: NameOption = None,
    algorithm_name: Algorithm = None,
    steps: Annotated[int, typer.Option(help="How many models to go back.")] = 1,
    to_seq: Annotated[int | None, typer.Option(help="To the model of this deployment.")] = None,
    quarantine: Annotated[
        bool, typer.Option("--quarantine", help="Keep what is live from being chosen again. Needs a reason.")
    ] = False,
    reason: Reason = None,
    plan: Plan = False,
    expect_model_id: Expect = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Go back to the model that was live before this one; a second time undoes it.

    - `frontrunner rollback digits`
    - `frontrunner rollback digits --quarantine --reason 'it refuses every loan'`
    - `frontrunner rollback digits --to-seq 3`
    """
    asked = {
        "steps": steps,
        "to_seq": to_seq,
        "quarantine": quarantine,
        "reason": reason,
        "plan": plan,
        "expect_model_id": expect_model_id,
        "force": force,
    }
    _deploy(project_of(name, project_name), "rollback", algorithm_name, asked, as_json)


@app.command()
def quarantine(
    model_id: ModelId,
    reason: Annotated[str, typer.Option(help="Why; it is shown wherever the model is.")],
    as_json: AsJson = False,
) -> None:
    """Keep a model from being chosen, whatever its score, until it is released.

    - `frontrunner quarantine 7 --reason 'trained on a broken export'`
    """
    from tasks.promotion.manual import quarantine as hold

    record, is_live = hold(model_id, reason)
    if as_json:
        print_json({"model_id": record.id, "quarantine": record.quarantine, "live": is_live})
        return
    print(f"model {record.id} ({record.algorithm}) is in quarantine: {record.quarantine}")
    if is_live:
        print("it is live still: roll back, or deploy another")


@app.command()
def release(model_id: ModelId, as_json: AsJson = False) -> None:
    """Let a model that was in quarantine be chosen again."""
    from tasks.promotion.manual import release as let_go

    record = let_go(model_id)
    if as_json:
        print_json({"model_id": record.id, "quarantine": record.quarantine})
    else:
        print(f"model {record.id} ({record.algorithm}) may be chosen again")


@app.command()
def replay(
    decision_id: Annotated[int, typer.Argument(help="Its id, as `frontrunner decisions` lists it.")],
    as_json: AsJson = False,
) -> None:
    """Compute a decision again from its snapshot and the artifacts, and compare it with its receipt.

    Nothing is written. It exits with 1 where they differ.
    """
    from tasks.promotion.automatic import replay as again

    found = again(decision_id)
    if as_json:
        print_json({**flat(found.decision), "same": not found.differences, "differences": found.differences})
    else:
        print(
            f"decision {decision_id} of {found.decision.decided_at:%Y-%m-%d %H:%M} UTC, {found.decision.code_version}"
        )
        print(f"receipt: {'deployed' if found.decision.deployed else 'not deployed'}: {found.decision.reason}")
        print(f"again:   {'deployed' if found.verdict.deploy else 'not deployed'}: {found.verdict.reason}")
        print("\n".join(found.differences) or "the same verdict, to the last digit")
    if found.differences:
        sys.exit(1)


@app.command()
def predict(
    name: Name = None,
    project_name: NameOption = None,
    relation_name: Annotated[str | None, typer.Option(help="The rows to score; none: JSON on standard input.")] = None,
    output: Annotated[
        str | None, typer.Option(help="files:scored.parquet, files:scored.csv or warehouse:public.scored.")
    ] = None,
    if_exists: Annotated[str, typer.Option(help="replace, or append to a table.")] = "replace",
    as_json: AsJson = False,
) -> None:
    """Answer with the live model: for rows of JSON on standard input, or for a relation, into a file or a table.

    - `echo '{"Chins": 5, "Situps": 162, "Jumps": 60}' | frontrunner predict exercise`
    - `frontrunner predict digits --relation-name files:new.parquet --output files:scored.parquet`
    """
    project = project_of(name, project_name)
    if (relation_name is None) != (output is None):
        raise typer.BadParameter("--relation-name and --output go together; without both, rows are read as JSON")
    if relation_name is None or output is None:
        _predict_rows(project, as_json)
        return
    from tasks.predictions import score_relation

    result = score_relation(project, relation_name, output, if_exists, uuid4().hex)
    if as_json:
        print_json(result)
    else:
        print(f"{result.output}: {result.rows:,} rows of model {result.model_id} ({result.algorithm_name})")


def _deploy(project_name: str, strategy: str, algorithm_name: str | None, asked: dict[str, Any], as_json: bool) -> None:
    """Without Prefect: the way back must be open when its server is not."""
    from tasks.promotion.manual import checked_deploy, deploy, describe

    checked = checked_deploy(project_name, strategy, algorithm_name, **asked)
    result = deploy(checked, uuid4().hex)
    if as_json:
        row = asdict(result)
        print_json({field: row[field] for field in row if field != "planned" or result.planned})  # as it ever was
    else:
        print(describe(result, checked))


def _predict_rows(project_name: str, as_json: bool) -> None:
    from registry import Predictor

    text = sys.stdin.read()
    try:
        rows = json.loads(text)
    except json.JSONDecodeError as error:
        raise typer.BadParameter(f"standard input is not JSON: {error}") from None
    if isinstance(rows, dict) and not any(isinstance(value, list) for value in rows.values()):
        rows = [rows]  # one row
    model, answers = Predictor(project_name).answer(rows)
    if as_json:
        print_json({"predictions": answers.tolist(), "model_id": model.id, "algorithm_name": model.algorithm})
    else:
        for answer in answers.tolist():
            print(answer if not isinstance(answer, list) else " ".join(map(str, answer)))


def _one_or_more(names: list[str] | None) -> str | list[str] | None:
    return names[0] if names and len(names) == 1 else names


def _separated(values: list[str] | None) -> list[str] | None:
    return [part.strip() for value in values for part in value.split(",") if part.strip()] if values else None


def _json_object(option: str, value: str | None) -> dict[str, Any] | None:
    if value is None:
        return None
    try:
        parsed = json.loads(value)
    except json.JSONDecodeError as error:
        raise typer.BadParameter(f"{option} is not JSON: {error}") from None
    if not isinstance(parsed, dict):
        raise typer.BadParameter(f"{option} is not a JSON object")
    return parsed


def set_defaults() -> None:
    """What `train` has in its environment."""
    _default(environment.of_running())
    _default(PREFECT_DEFAULTS)
    if os.environ.get("PREFECT_API_URL", "").startswith("http://127.0.0.1:"):
        _default(prefect_server.WITHOUT_TLS)
    bound_mlflow()


def _default(values: dict[str, str]) -> None:
    for variable, value in values.items():
        os.environ.setdefault(variable, value)


def _end(*_: Any) -> NoReturn:
    """What is being trained is recorded as cancelled, and another signal does not interrupt that."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(143)


def _check_prefect() -> None:
    """Raises: PrefectUnavailable, PrefectRefused."""
    from prefect.client.orchestration import get_client
    from prefect.exceptions import PrefectHTTPStatusError
    from prefect.settings import get_current_settings

    url = str(get_current_settings().api.url)
    with get_client(sync_client=True) as client:
        if error := client.api_healthcheck():
            raise PrefectUnavailable(without_credentials(url)) from error
        try:
            client.api_version()  # a server tells everyone that it is there
        except PrefectHTTPStatusError as error:
            raise PrefectRefused(without_credentials(url), error.response.status_code) from error


def _listen() -> None:
    """Progress and warnings go to the terminal's error stream, a line each."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s  %(message)s", datefmt="%H:%M:%S"))
    log = logging.getLogger("frontrunner")
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False

    def show(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        log.warning("%s: %s", category.__name__, str(message).strip().split("\n", 1)[0].rstrip(":"))

    warnings.showwarning = show


if __name__ == "__main__":
    main()
