"""The commands that run servers, and that put the registry and MLflow in order."""

import sys
from typing import Annotated

import typer

from flows.cli.options import AsJson, DryRun, Name, NameOption, project_of
from flows.cli.output import print_json
from flows.local.ports import free_port
from registry import settings

app = typer.Typer()


@app.command()
def serve(
    project_name: Annotated[str | None, typer.Option(help="Only this project; none: every one.")] = None,
    host: Annotated[str, typer.Option(help="Where to listen; the default is this machine alone.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0: any free one.")] = 8000,
    refresh_seconds: Annotated[float, typer.Option(help="How soon a deploy is seen.")] = 0.5,
) -> None:
    """Answer over HTTP with the live models; http://127.0.0.1:8000/docs says how. A token in FRONTRUNNER_TOKEN is asked
    for.

    - `frontrunner serve --project-name digits`
    """
    from registry.serving.http import serve

    serve(project_name, host, free_port("predictions", port, host), settings.token(), refresh_seconds)


@app.command()
def up(
    prefect_port: Annotated[
        int, typer.Option(min=0, max=65535, help="Of Prefect's server and pages. 0: any free one.")
    ] = 4200,
    mlflow_port: Annotated[int, typer.Option(min=0, max=65535, help="Of MLflow's pages. 0: any free one.")] = 5000,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of the prediction service. 0: any free one.")] = 8000,
) -> None:
    """Start Prefect, MLflow, a worker with every deployment, and the prediction service; Ctrl-C ends them.

    On this machine alone, with a password that it makes and keeps in .frontrunner/up.env. What PREFECT_API_URL or an
    address in MLFLOW_TRACKING_URI names is used, not started.

    - `frontrunner up`
    - `frontrunner up --mlflow-port 5001`
    """
    from flows.local.up import up

    sys.exit(up(prefect_port, mlflow_port, port))


@app.command()
def upgrade(as_json: AsJson = False) -> None:
    """Bring the registry's tables to this version, or make them."""
    from registry.session import upgrade

    before, after = upgrade()
    if as_json:
        print_json({"before": before, "after": after})
    else:
        was = " already" if before == after else f", it was {before or 'empty'}"
        print(f"the registry is at version {after}{was}")


@app.command()
def reconcile(
    name: Name = None, project_name: NameOption = None, dry_run: DryRun = False, as_json: AsJson = False
) -> None:
    """Put in order what crashes and outages left behind, in every project or in one.

    Candidates of whose process nothing was heard for five minutes are recorded as failed. MLflow's alias `live` is made
    to name what is live, runs of trainings that are over end as killed, what a prune had to leave is deleted, and saved
    models that are no model's file, once they are an hour old. A trained model whose file is gone is told, not changed.
    It exits with 1 if something could not be done.

    - `frontrunner reconcile`
    - `frontrunner reconcile digits --dry-run` says what would be done
    """
    from tasks.upkeep.reconcile import reconcile

    project = project_of(name, project_name) if name or project_name else None
    deeds = reconcile(project, dry_run=dry_run)
    if as_json:
        print_json(deeds)
    else:
        mark = {True: "would be" if dry_run else "done", False: "NOT DONE", None: "look"}
        for deed in deeds:
            print(f"{mark[deed.done]:<9} {deed.project_name or '':<18} {deed.said}")
        if not deeds:
            print("all is in order")
    if any(deed.done is False for deed in deeds):
        sys.exit(1)


@app.command()
def prune(
    name: Name = None,
    project_name: NameOption = None,
    keep_deployments: Annotated[int, typer.Option(help="How many of the newest deployments keep their models.")] = 10,
    keep_models: Annotated[int, typer.Option(help="How many of the newest trained models stay, and of the best.")] = 20,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Delete the files of a project's old models, and of snapshots that no model needs any more.

    Kept are: what is live; the models of the last `--keep-deployments` deployments; what a rollback would bring back;
    the newest `--keep-models` trained models, and as many with the highest scores; whatever is being trained; the
    newest snapshot, and those of kept models. Everything else that was trained, failed or was cancelled loses
    its files, its runs in MLflow and its versions there, for good. It stays in `models`, `history` and `decisions`, as
    pruned; no strategy and no rollback can choose it, and its decisions cannot be computed again.

    - `frontrunner prune digits --dry-run`
    - `frontrunner prune digits --keep-deployments 5 --keep-models 10`
    """
    from tasks.upkeep.prune import checked_keep, prune

    project = project_of(name, project_name)
    pruned = prune(project, checked_keep(keep_deployments, keep_models), dry_run=dry_run)
    if as_json:
        print_json(pruned)
    else:
        would = "would be pruned" if dry_run else "pruned"
        print(f"models {would}: {', '.join(map(str, pruned.model_ids)) or 'none'}")
        print(f"snapshots {would}: {', '.join(map(str, pruned.snapshot_ids)) or 'none'}")
        for said in pruned.left:
            print(f"left for the next prune or reconcile: {said}")
    if pruned.left:
        sys.exit(1)
