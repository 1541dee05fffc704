"""The commands that show what is recorded. They change nothing."""

import sys
from dataclasses import asdict
from typing import Annotated, Any

import typer

from flows.cli.options import AsJson, ModelId, Name, NameOption, project_of
from flows.cli.output import cell, flat, print_fields, print_json, print_rows, print_table
from registry.errors import NoCandidate, NothingDeployed
from registry.vocabulary import KEY_METRIC, METRIC_LABEL, WHY, Strategy, task_named
from tasks.estimators.algorithms import ALGORITHMS, DESCRIPTIONS
from tasks.reporting.statistics_table import statistics_table

app = typer.Typer()
PANEL = "Look"
# The commands import `registry.queries` themselves: it imports SQLAlchemy, which `--help` does not need.


@app.command(rich_help_panel=PANEL)
def projects(as_json: AsJson = False) -> None:
    """List the projects and what is live in each."""
    from registry import queries  # heavy

    fields = ["project_name", "task", "trained_models", "model_id", "algorithm_name", "score", "strategy"]
    titles = {"trained_models": "models", "model_id": "live", "strategy": "by", "deployed_at": "since"}
    rows = [asdict(row) for row in queries.projects()]
    empty = "no projects yet: frontrunner train --help"
    print_rows(rows, [*fields, "deployed_at", "quarantine"], titles, as_json=as_json, empty=empty)


@app.command(rich_help_panel=PANEL)
def show(name: Name = None, project_name: NameOption = None, as_json: AsJson = False) -> None:
    """Show what is live in a project, since when, by whom and why, and what a rollback would bring back.

    Only the registry is queried.

    Example: `frontrunner show digits`
    """
    from registry import choices, queries  # heavy

    project = queries.project(project_of(name, project_name))
    newest = next(iter(queries.history(project.name, limit=1)), None)
    if newest is None:
        raise NothingDeployed(project.name)
    model = queries.model(newest.model_id)
    snapshot = queries.snapshot(model.snapshot_id)
    receipt = queries.decision_for(model.id) if newest.strategy is Strategy.NEW_SCORE else None
    why = receipt.reason if receipt else "; ".join(filter(None, [WHY[newest.strategy], newest.reason]))
    back, obstacle = None, ""
    try:
        back = choices.chosen(choices.DeployRequest(project.name, Strategy.ROLLBACK))[0]
    except NoCandidate as error:
        obstacle = str(error)
    if as_json:
        live = {**asdict(newest), "why": why, "relation_name": snapshot.relation_name, "snapshot_id": snapshot.id}
        to = {"model_id": back.id, "algorithm_name": back.algorithm, "score": back.score} if back else None
        print_json({"project_name": project.name, "task": project.task, "live": live, "rollback": to})
        return
    label = METRIC_LABEL[KEY_METRIC[project.task]]
    forced = ", forced: without proof that it answers" if newest.forced else ""
    fields = {
        "project": f"{project.name} ({project.task})",
        "live": f"model {model.id}, {model.algorithm}, {label} {newest.score:.4f}",
        "since": f"{cell(newest.deployed_at)}, deployment {newest.seq}",
        "by": f"{newest.strategy}{forced}, {newest.deployed_by}",
        "why": why,
        "trained": f"{cell(model.finished_at)} on snapshot {snapshot.id} of {snapshot.relation_name}",
        "quarantine": newest.quarantine,
        "rollback": f"would bring back model {back.id}, {back.algorithm}, {label} {back.score:.4f}"
        if back
        else obstacle,
    }
    print_fields(fields)


@app.command(rich_help_panel=PANEL)
def doctor(as_json: AsJson = False) -> None:
    """Check the registry, MLflow, Prefect, its worker and deployments, MLflow's aliases and the models' files.

    Nothing is changed. The exit code is 1 if anything is wrong; each such line ends with how to fix it.
    """
    from flows.cli.doctor import examine  # heavy: imports Prefect and SQLAlchemy

    findings = []
    for finding in examine():
        findings.append(finding)
        if not as_json:
            mark = {True: "ok", False: "BAD", None: "-"}[finding.ok]
            print(f"{mark:<4} {finding.part:<18} {finding.said}", flush=True)
    if as_json:
        print_json(findings)
    if any(finding.ok is False for finding in findings):
        sys.exit(1)


@app.command(rich_help_panel=PANEL)
def models(name: Name = None, project_name: NameOption = None, as_json: AsJson = False) -> None:
    """List a project's models, the newest first. The live one is marked.

    Example: `frontrunner models digits`
    """
    from registry import queries  # heavy

    project = project_of(name, project_name)
    live = queries.live_model(project)
    rows = [
        {"model_id": row.id, "live": live is not None and row.id == live.id, **asdict(row)}
        for row in queries.models(project)
    ]
    fields = ["model_id", "live", "algorithm", "score", "status", "snapshot_id", "hyperparams", "finished_at"]
    print_rows(rows, [*fields, "quarantine", "reason"], as_json=as_json)


@app.command(rich_help_panel=PANEL)
def history(name: Name = None, project_name: NameOption = None, as_json: AsJson = False) -> None:
    """List a project's deployments, the newest first. The first row is live.

    Example: `frontrunner history digits`
    """
    from registry import queries  # heavy

    fields = ["seq", "strategy", "algorithm_name", "model_id", "score", "deployed_at", "deployed_by", "forced"]
    rows = [asdict(row) for row in queries.history(project_of(name, project_name))]
    print_rows(rows, [*fields, "reason", "quarantine"], as_json=as_json, empty="nothing was deployed yet")


@app.command(rich_help_panel=PANEL)
def decisions(name: Name = None, project_name: NameOption = None, as_json: AsJson = False) -> None:
    """List a project's automatic decisions, deployed or rejected, the newest first.

    Example: `frontrunner decisions digits`
    """
    from registry import queries  # heavy

    fields = ["decision_id", "challenger_id", "algorithm_name", "live_model_id", "challenger_score", "live_score"]
    fields += ["interval", "rows_compared", "rows_excluded", "deployed", "reason"]
    rows = [flat(record) for record in queries.decisions(project_of(name, project_name))]
    print_rows(rows, fields, as_json=as_json, empty="nothing was decided yet")


@app.command(rich_help_panel=PANEL)
def model(model_id: ModelId, as_json: AsJson = False) -> None:
    """Show one model: its metrics, its hyperparameters, how each column was prepared, and where its file is.

    Example: `frontrunner model 7`
    """
    from registry import queries  # heavy
    from tasks.estimators.preprocessing import preprocessing_lines  # heavy: imports scikit-learn

    record = queries.model(model_id)
    if as_json:
        print_json({"model_id": record.id, **asdict(record)})
        return
    fields = {
        "model": record.id,
        "algorithm": record.algorithm,
        "status": record.status,
        **record.metrics,
        "hyperparams": record.hyperparams or "the library's defaults",
        "snapshot": record.snapshot_id,
        "MLflow run": record.mlflow_run_id,
        "file": record.artifact.uri if record.artifact else None,
        "reason": record.reason,
        "quarantine": record.quarantine,
    }
    print_fields(fields)
    if record.preprocessing:
        print()
        print_table(*preprocessing_lines(record.preprocessing))


@app.command(rich_help_panel=PANEL)
def snapshot(
    snapshot_id: Annotated[int, typer.Argument(help="The snapshot's id, as `frontrunner models` lists it.")],
    as_json: AsJson = False,
) -> None:
    """Show a snapshot: where its rows come from, how they are split, and statistics of each column.

    Example: `frontrunner snapshot 1`
    """
    from registry import queries  # heavy

    record, statistics = queries.snapshot(snapshot_id), queries.snapshot_statistics(snapshot_id)
    if as_json:
        print_json({"snapshot_id": record.id, **asdict(record), "statistics": statistics})
        return
    if record.pruned_at:
        print(f"its rows were deleted: it was pruned at {cell(record.pruned_at)}")
    print(
        f"snapshot {record.id} of {record.relation_name}: {record.train_rows:,} rows to fit,"
        f" {record.test_rows:,} to test ({record.test_sampling}), predicting {', '.join(record.y_column_names)}"
    )
    print_table(*statistics_table(statistics))


@app.command(rich_help_panel=PANEL)
def algorithms(
    task: Annotated[
        str | None, typer.Option(metavar="regression|classification", help="Only the algorithms of this task.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the algorithms that can be trained.

    Example: `frontrunner algorithms --task regression`
    """
    kinds = [task_named(task)] if task else list(ALGORITHMS)
    rows: list[dict[str, Any]] = [
        {"algorithm": name, **{str(kind): ALGORITHMS[kind].get(name) for kind in kinds}, "description": description}
        for name, description in DESCRIPTIONS.items()
        if any(name in ALGORITHMS[kind] for kind in kinds)
    ]
    if not as_json:  # a table shows the class without its module
        rows = [row | {str(kind): str(row[kind] or "").rpartition(".")[2] for kind in kinds} for row in rows]
    print_rows(rows, ["algorithm", *map(str, kinds), "description"], {"description": ""}, as_json=as_json)
