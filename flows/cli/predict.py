"""The commands that predict with the live models."""

import json
import sys
from typing import Annotated
from uuid import uuid4

import typer

import registry
from flows.cli.options import AsJson, Given, takes
from flows.cli.output import print_json
from flows.local.ports import free_port
from registry import settings
from tasks.parameters import PredictParameters
from tasks.validation import check

app = typer.Typer()
PANEL = "Predict and serve"


@app.command(rich_help_panel=PANEL)
@takes(PredictParameters, relation_name=None, output=None)
def predict(given: Given, as_json: AsJson = False) -> None:
    """Predict with the live model: for JSON rows on standard input, or for the rows of a relation.

    `--relation-name` and `--output` go together.

    Examples:
    - `echo '{"Chins": 5, "Situps": 162, "Jumps": 60}' | frontrunner predict exercise`
    - `frontrunner predict digits --relation-name files:new.parquet --output files:scored.parquet`
    """
    if (given["relation_name"] is None) != (given["output"] is None):
        raise typer.BadParameter("--relation-name and --output go together; without both, rows are read as JSON")
    if given["relation_name"] is None:
        _predict_rows(given["project_name"], as_json)
        return
    from tasks.predictions import score_relation  # heavy: imports pandas

    parameters = check(PredictParameters, given)
    result = score_relation(**vars(parameters), key=uuid4().hex)
    if as_json:
        print_json(result)
    else:
        print(f"{result.output}: {result.rows:,} rows of model {result.model_id} ({result.algorithm_name})")


@app.command(rich_help_panel=PANEL)
def serve(
    project_name: Annotated[str | None, typer.Option(help="Only this project. If left out, every project.")] = None,
    host: Annotated[str, typer.Option(help="Where to listen. The default is this machine alone.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port; 0 takes any free one.")] = 8000,
    refresh_seconds: Annotated[float, typer.Option(help="After how many seconds a deploy is noticed.")] = 0.5,
) -> None:
    """Answer over HTTP with the live models. http://127.0.0.1:8000/docs describes the service.

    If FRONTRUNNER_TOKEN is set, requests need that token.

    Example: `frontrunner serve --project-name digits`
    """
    from registry.serving.http import serve  # heavy: imports FastAPI and pandas

    serve(project_name, host, free_port("predictions", port, host), settings.token(), refresh_seconds)


def _predict_rows(project_name: str, as_json: bool) -> None:
    text = sys.stdin.read()
    try:
        rows = json.loads(text)
    except json.JSONDecodeError as error:
        raise typer.BadParameter(f"standard input is not JSON: {error}") from None
    if isinstance(rows, dict) and not any(isinstance(value, list) for value in rows.values()):
        rows = [rows]  # one row
    model, answers = registry.Predictor(project_name).answer(rows)
    if as_json:
        print_json({"predictions": answers.tolist(), "model_id": model.id, "algorithm_name": model.algorithm})
    else:
        for answer in answers.tolist():
            print(answer if not isinstance(answer, list) else " ".join(map(str, answer)))
