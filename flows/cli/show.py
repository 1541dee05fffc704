"""The commands that show what is recorded. They change nothing."""

import sys
from dataclasses import asdict
from typing import Annotated, Any

import typer

from flows.cli.options import AsJson, ModelId, Name, NameOption, project_of
from flows.cli.output import cell, flat, print_json, print_rows, print_table
from registry.errors import NoCandidate, NothingDeployed
from registry.vocabulary import KEY_METRIC, METRIC_LABEL, WHY, Strategy

app = typer.Typer()
PANEL = "Look"


@app.command(rich_help_panel=PANEL)
def projects(as_json: AsJson = False) -> None:
    """List the projects and what is live in each."""
    from registry import queries  # heavy: imports SQLAlchemy, which `--help` does not need

    head = {
        "project_name": "project",
        "task": "task",
        "trained_models": "models",
        "model_id": "live",
        "algorithm_name": "algorithm",
        "score": "score",
        "strategy": "by",
        "deployed_at": "since",
        "quarantine": "quarantine",
    }
    rows = [asdict(row) for row in queries.projects()]
    print_rows(rows, head, as_json=as_json, empty="no projects yet: frontrunner train --help")


@app.command(rich_help_panel=PANEL)
def show(name: Name = None, project_name: NameOption = None, as_json: AsJson = False) -> None:
    """Show what is live in a project, since when, by whom and why, and what a rollback would bring back.

    Only the registry is queried.

    Example: `frontrunner show digits`
    """
    from registry import queries  # heavy: imports SQLAlchemy, which `--help` does not need
    from registry.choices import DeployRequest, chosen

    project = queries.project(project_of(name, project_name))
    newest = next(iter(queries.history(project.name, limit=1)), None)
    if newest is None:
        raise NothingDeployed(project.name)
    model = queries.model(newest.model_id)
    snapshot = queries.snapshot(model.snapshot_id)
    receipt = queries.decision_for(model.id) if newest.strategy is Strategy.NEW_SCORE else None
    why = receipt.reason if receipt else "; ".join(filter(None, [WHY[newest.strategy], newest.reason]))
    back, no_way = None, ""
    try:
        back = chosen(DeployRequest(project.name, Strategy.ROLLBACK))[0]
    except NoCandidate as error:
        no_way = str(error)
    if as_json:
        live = {**asdict(newest), "why": why, "relation_name": snapshot.relation_name, "snapshot_id": snapshot.id}
        to = {"model_id": back.id, "algorithm_name": back.algorithm, "score": back.score} if back else None
        print_json({"project_name": project.name, "task": project.task, "live": live, "rollback": to})
        return
    label = METRIC_LABEL[KEY_METRIC[project.task]]
    forced = ", forced: without proof that it answers" if newest.forced else ""
    lines = {
        "project": f"{project.name} ({project.task})",
        "live": f"model {model.id}, {model.algorithm}, {label} {newest.score:.4f}",
        "since": f"{cell(newest.deployed_at)}, deployment {newest.seq}",
        "by": f"{newest.strategy}{forced}, {newest.deployed_by}",
        "why": why,
        "trained": f"{cell(model.finished_at)} on snapshot {snapshot.id} of {snapshot.relation_name}",
        "quarantine": newest.quarantine,
        "rollback": f"would bring back model {back.id}, {back.algorithm}, {label} {back.score:.4f}" if back else no_way,
    }
    print_table(["", ""], [[title, text] for title, text in lines.items() if text])


@app.command(rich_help_panel=PANEL)
def doctor(as_json: AsJson = False) -> None:
    """Check the registry, MLflow, Prefect, its worker and deployments, MLflow's aliases and the models' files.

    Nothing is changed. The exit code is 1 if anything is wrong; each such line ends with how to fix it.
    """
    from flows.cli.doctor import examine  # heavy: imports SQLAlchemy and httpx

    findings = []
    for found in examine():
        findings.append(found)
        if not as_json:
            mark = {True: "ok", False: "BAD", None: "-"}[found.ok]
            print(f"{mark:<4} {found.part:<18} {found.said}", flush=True)
    if as_json:
        print_json(findings)
    if any(found.ok is False for found in findings):
        sys.exit(1)


@app.command(rich_help_panel=PANEL)
def models(name: Name = None, project_name: NameOption = None, as_json: AsJson = False) -> None:
    """List a project's models, the newest first. The live one is marked.

    Example: `frontrunner models digits`
    """
    from registry import queries  # heavy: imports SQLAlchemy, which `--help` does not need

    project = project_of(name, project_name)
    live = queries.live_model(project)
    rows = [
        {"model_id": row.id, "live": live is not None and row.id == live.id, **asdict(row)}
        for row in queries.models(project)
    ]
    head = {
        "model_id": "model",
        "live": "live",
        "algorithm": "algorithm",
        "score": "score",
        "status": "status",
        "snapshot_id": "snapshot",
        "hyperparams": "hyperparams",
        "finished_at": "finished at",
        "quarantine": "quarantine",
        "reason": "reason",
    }
    print_rows(rows, head, as_json=as_json)


@app.command(rich_help_panel=PANEL)
def history(name: Name = None, project_name: NameOption = None, as_json: AsJson = False) -> None:
    """List a project's deployments, the newest first. The first row is live.

    Example: `frontrunner history digits`
    """
    from registry import queries  # heavy: imports SQLAlchemy, which `--help` does not need

    head = {
        "seq": "seq",
        "strategy": "strategy",
        "algorithm_name": "algorithm",
        "model_id": "model",
        "score": "score",
        "deployed_at": "deployed at",
        "deployed_by": "by",
        "forced": "forced",
        "reason": "reason",
        "quarantine": "quarantine",
    }
    rows = [asdict(row) for row in queries.history(project_of(name, project_name))]
    print_rows(rows, head, as_json=as_json, empty="nothing was deployed yet")


@app.command(rich_help_panel=PANEL)
def decisions(name: Name = None, project_name: NameOption = None, as_json: AsJson = False) -> None:
    """List a project's automatic decisions, deployed or rejected, the newest first.

    Example: `frontrunner decisions digits`
    """
    from registry import queries  # heavy: imports SQLAlchemy, which `--help` does not need

    head = {
        "decision_id": "decision",
        "challenger_id": "challenger",
        "algorithm_name": "algorithm",
        "live_model_id": "live then",
        "challenger_score": "score",
        "live_score": "live score",
        "interval": "interval",
        "rows_compared": "rows",
        "rows_excluded": "left out",
        "deployed": "deployed",
        "reason": "reason",
    }
    rows = [flat(record) for record in queries.decisions(project_of(name, project_name))]
    print_rows(rows, head, as_json=as_json, empty="nothing was decided yet")


@app.command(rich_help_panel=PANEL)
def model(model_id: ModelId, as_json: AsJson = False) -> None:
    """Show one model: its metrics, its hyperparameters, how each column was prepared, and where its file is.

    Example: `frontrunner model 7`
    """
    from registry import queries  # heavy: imports SQLAlchemy, which `--help` does not need
    from tasks.estimators.preprocessing import preprocessing_lines  # heavy: imports scikit-learn

    record = queries.model(model_id)
    if as_json:
        print_json({"model_id": record.id, **asdict(record)})
        return
    shown = {
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
    print_table(["", ""], [[title, cell(value)] for title, value in shown.items() if value is not None])
    if record.preprocessing:
        print()
        head, *rows = preprocessing_lines(record.preprocessing)
        print_table(head, rows)


@app.command(rich_help_panel=PANEL)
def snapshot(
    snapshot_id: Annotated[int, typer.Argument(help="The snapshot's id, as `frontrunner models` lists it.")],
    as_json: AsJson = False,
) -> None:
    """Show a snapshot: where its rows come from, how they are split, and statistics of each column.

    Example: `frontrunner snapshot 1`
    """
    from registry import queries  # heavy: imports SQLAlchemy, which `--help` does not need
    from tasks.reporting.statistics_table import statistics_table

    record, statistics = queries.snapshot(snapshot_id), queries.snapshot_statistics(snapshot_id)
    if as_json:
        print_json({"snapshot_id": record.id, **asdict(record), "statistics": statistics})
        return
    if record.pruned_at:
        print(f"its rows are gone: it was pruned at {cell(record.pruned_at)}")
    print(
        f"snapshot {record.id} of {record.relation_name}: {record.train_rows:,} rows to fit,"
        f" {record.test_rows:,} to test ({record.test_sampling}), predicting {', '.join(record.y_column_names)}"
    )
    head, *rows = statistics_table(statistics)
    print_table(head, rows)


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
    from registry.vocabulary import task_named
    from tasks.estimators.algorithms import ALGORITHMS, DESCRIPTIONS

    wanted = [task_named(task)] if task else list(ALGORITHMS)
    rows: list[dict[str, Any]] = [
        {"algorithm": name, **{str(kind): ALGORITHMS[kind].get(name) for kind in wanted}, "description": said}
        for name, said in DESCRIPTIONS.items()
        if any(name in ALGORITHMS[kind] for kind in wanted)
    ]
    head = {"algorithm": "algorithm", **{str(kind): str(kind) for kind in wanted}, "description": ""}
    shown = [{**row, **{str(kind): str(row[kind] or "").rpartition(".")[2] for kind in wanted}} for row in rows]
    print_rows(rows if as_json else shown, head, as_json=as_json)
