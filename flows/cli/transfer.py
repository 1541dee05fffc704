"""The commands that copy a project into one file, and create it from that file elsewhere."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.options import AsJson, Name, NameOption, project_of
from flows.cli.output import print_json

app = typer.Typer()
PANEL = "Move"


@app.command("export", rich_help_panel=PANEL)
def export_(
    output: Annotated[
        Path, typer.Option(help="The file to write. An existing file is replaced when the export is complete.")
    ],
    name: Name = None,
    project_name: NameOption = None,
    as_json: AsJson = False,
) -> None:
    """Write a project to one file: its history, decisions, models and the rows that they were trained on.

    Protect the file as you protect the training rows. The registry may be written to during the export.

    Example: `frontrunner export digits --output digits.zip`
    """
    from tasks.upkeep.transfer import export_project  # heavy: imports SQLAlchemy and MLflow

    result = export_project(project_of(name, project_name), output)
    if as_json:
        print_json(asdict(result))
    else:
        print(
            f"{result.output}: {result.project_name}, {result.models} models, {result.deployments} deployments,"
            f" {result.files} files, {result.bytes / 1e6:,.1f} MB"
        )


@app.command("import", rich_help_panel=PANEL)
def import_(
    file: Annotated[Path, typer.Argument(help="A file that `frontrunner export` wrote.")],
    as_name: Annotated[
        str | None, typer.Option("--as", help="Import the project under this name instead of its own.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Create the project of an export in this registry and MLflow. Its ids are new; everything else is as it was.

    The file is verified before anything is written, and all of it is imported or nothing.

    Examples:
    - `frontrunner import digits.zip`
    - `REGISTRY_URL=postgresql://me@host/registry frontrunner import digits.zip --as digits-2025`
    """
    from tasks.upkeep.transfer import import_project  # heavy: imports SQLAlchemy and MLflow

    result = import_project(file, as_name)
    if as_json:
        print_json(asdict(result))
        return
    live = f"model {result.live_model_id} is live" if result.live_model_id else "nothing is live"
    print(f"{result.project_name}: {result.models} models, {result.deployments} deployments; {live}")
