"""What several commands ask for."""

from typing import Annotated

import typer

from registry.names import checked_name

Name = Annotated[str | None, typer.Argument(metavar="[PROJECT_NAME]", show_default=False, help="The project.")]
NameOption = Annotated[str | None, typer.Option("--project-name", help="The project, by name instead of by position.")]
Algorithm = Annotated[str | None, typer.Option(help="Choose only among models of this algorithm.")]
Plan = Annotated[bool, typer.Option("--plan", help="Only say which model would go live.")]
Expect = Annotated[
    int | None, typer.Option("--expect-model-id", help="Deploy this model or none: the one that a plan named.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]
Force = Annotated[
    bool, typer.Option("--force", help="Without proof that the model answers as at training. Needs a reason.")
]
Reason = Annotated[str | None, typer.Option(help="Why; it is kept in the history.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
ModelId = Annotated[int, typer.Argument(help="Its id, as `frontrunner models` lists it.")]


def project_of(name: str | None, project_name: str | None) -> str:
    given = [each for each in (name, project_name) if each is not None]
    if len(given) != 1:
        raise typer.BadParameter("name one project: as the first argument, or with --project-name")
    return checked_name(given[0])
