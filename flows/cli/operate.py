"""The commands that run the servers and maintain the registry and MLflow."""

import sys
from typing import Annotated, Any

import typer

from flows.cli.options import AsJson, DryRun, Given, takes
from flows.cli.output import print_json
from tasks.parameters import KeepParameters, ReconcileParameters
from tasks.validation import check

app = typer.Typer()
PANEL = "Operate"


def _port_option(server: str) -> Any:
    return typer.Option(min=0, max=65535, metavar="PORT", help=f"Port of {server}. 0 takes any free one.")


@app.command(rich_help_panel=PANEL)
def up(
    prefect_port: Annotated[int, _port_option("Prefect's server and pages")] = 4200,
    mlflow_port: Annotated[int, _port_option("MLflow's pages")] = 5000,
    port: Annotated[int, _port_option("the prediction service")] = 8000,
) -> None:
    """Start Prefect, MLflow, a worker with every deployment, and the prediction service. Ctrl-C stops them.

    They listen on this machine alone, with a password that is generated once and stored in .frontrunner/up.env.
    A server that PREFECT_API_URL or an address in MLFLOW_TRACKING_URI names is used instead of starting one.

    Example: `frontrunner up --mlflow-port 5001`
    """
    from flows.local.up import up  # heavy: imports psutil and SQLAlchemy

    sys.exit(up(prefect_port, mlflow_port, port))


@app.command(rich_help_panel=PANEL)
def upgrade(as_json: AsJson = False) -> None:
    """Bring the registry's tables to this version, or create them."""
    from registry.session import upgrade  # heavy: imports SQLAlchemy

    before, after = upgrade()
    if as_json:
        print_json({"before": before, "after": after})
    else:
        was = " already" if before == after else f", it was {before or 'empty'}"
        print(f"the registry is at version {after}{was}")


@app.command(rich_help_panel=PANEL)
@takes(ReconcileParameters)
def reconcile(given: Given, as_json: AsJson = False) -> None:
    """Repair what crashes and outages left behind, in every project or in one.

    - Candidates whose process has sent no heartbeat for five minutes are recorded as failed.
    - MLflow's alias `live` is set to the live model.
    - MLflow runs of trainings that are over are ended as killed.
    - Files that a prune had to leave are deleted.
    - Saved models that belong to no recorded model are deleted once they are an hour old.
    - A trained model without its file is reported, not changed.

    The exit code is 1 if something could not be done.

    Example: `frontrunner reconcile digits --dry-run` (only reports what would be done)
    """
    from tasks.upkeep.reconcile import reconcile  # heavy: imports SQLAlchemy and MLflow

    parameters = check(ReconcileParameters, given)
    actions = reconcile(parameters.project_name, dry_run=parameters.dry_run)
    if as_json:
        print_json(actions)
    else:
        mark = {True: "would be" if parameters.dry_run else "done", False: "NOT DONE", None: "look"}
        for action in actions:
            print(f"{mark[action.done]:<9} {action.project_name or '':<18} {action.said}")
        if not actions:
            print("all is in order")
    if any(action.done is False for action in actions):
        sys.exit(1)


@app.command(rich_help_panel=PANEL)
@takes(KeepParameters)
def prune(given: Given, dry_run: DryRun = False, as_json: AsJson = False) -> None:
    """Delete the files of a project's old models, and of snapshots that no model needs any more.

    What is kept:
    - the live model, and the model that a rollback would bring back;
    - the models of the newest `--keep-deployments` deployments;
    - the newest `--keep-models` trained models, and as many with the highest scores;
    - whatever is being trained;
    - the newest snapshot, and the snapshots of kept models.

    Every other model loses its files, its MLflow runs and its versions there, for good. It stays in `models`,
    `history` and `decisions` as pruned, but no strategy can choose it, and its decisions cannot be replayed.

    Examples:
    - `frontrunner prune digits --dry-run`
    - `frontrunner prune digits --keep-deployments 5 --keep-models 10`
    """
    from tasks.upkeep.prune import checked_keep, prune  # heavy: imports SQLAlchemy and MLflow

    pruned = prune(given.pop("project_name"), checked_keep(**given), dry_run=dry_run)
    if as_json:
        print_json(pruned)
    else:
        would = "would be pruned" if dry_run else "pruned"
        print(f"models {would}: {', '.join(map(str, pruned.model_ids)) or 'none'}")
        print(f"snapshots {would}: {', '.join(map(str, pruned.snapshot_ids)) or 'none'}")
        for message in pruned.left:
            print(f"left for the next prune or reconcile: {message}")
    if pruned.left:
        sys.exit(1)
