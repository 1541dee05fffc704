"""The commands that run servers, and that put the registry and MLflow in order."""

import sys
from typing import Annotated

import typer

from flows.options import AsJson
from flows.printing import print_json, print_rows
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
    from registry.service import serve

    serve(project_name, host, port, settings.token(), refresh_seconds)


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
    from flows.up import up

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
def reconcile(as_json: AsJson = False) -> None:
    """Make MLflow's alias `live` name what is live, in every project; a deploy does it for its own."""
    from registry import queries
    from tasks.mirror import mirror_live

    live = [project for project in queries.projects() if project.model_id]
    rows = [
        {"project_name": each.project_name, "model_id": each.model_id, "mirrored": mirror_live(each.project_name)}
        for each in live
    ]
    head = {"project_name": "project", "model_id": "live", "mirrored": "mirrored"}
    print_rows(rows, head, as_json=as_json, empty="nothing is live yet")
    if not all(row["mirrored"] for row in rows):
        sys.exit(1)
