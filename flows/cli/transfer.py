"""The commands that take a project elsewhere, or keep it for the day when it is lost."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.options import AsJson, Name, NameOption, project_of
from flows.cli.output import print_json

app = typer.Typer()


@app.command("export")
def export_(
    output: Annotated[
        Path, typer.Option(help="The file to write; what is there is replaced when the export is whole.")
    ],
    name: Name = None,
    project_name: NameOption = None,
    as_json: AsJson = False,
) -> None:
    """Write a project to one file: its history, its decisions, its models and the rows that they were trained on.

    Whoever has the file has the training rows. The registry may be written meanwhile.

    - `frontrunner export digits --output digits.zip`
    """
    from tasks.upkeep.transfer import export_project

    done = export_project(project_of(name, project_name), output)
    if as_json:
        print_json(asdict(done))
    else:
        print(
            f"{done.output}: {done.project_name}, {done.models} models, {done.deployments} deployments,"
            f" {done.files} files, {done.bytes / 1e6:,.1f} MB"
        )


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="What `frontrunner export` wrote, from SQLite or PostgreSQL.")],
    as_name: Annotated[str | None, typer.Option("--as", help="Another name for the project than it had.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make the project of an export anew in this registry and MLflow: its ids are new, everything else is as it was.

    All of it or nothing: the file is verified before anything is written.

    - `frontrunner import digits.zip`
    - `REGISTRY_URL=postgresql://me@host/registry frontrunner import digits.zip --as digits-2025`
    """
    from tasks.upkeep.transfer import import_project

    done = import_project(file, as_name)
    if as_json:
        print_json(asdict(done))
        return
    live = f"model {done.live_model_id} is live" if done.live_model_id else "nothing is live"
    print(f"{done.project_name}: {done.models} models, {done.deployments} deployments; {live}")
