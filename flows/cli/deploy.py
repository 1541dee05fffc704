"""The commands that decide which model is live. They need only the registry; Prefect and MLflow may be down."""

import sys
from dataclasses import asdict
from typing import Annotated
from uuid import uuid4

import typer

from flows.cli.options import AsJson, Given, ModelId, takes
from flows.cli.output import flat, print_json
from tasks.parameters import ChooseParameters, DeployParameters, RollbackParameters

app = typer.Typer()
PANEL = "Train and deploy"


@app.command(rich_help_panel=PANEL)
@takes(DeployParameters, strategy=None)
def deploy(given: Given, as_json: AsJson = False) -> None:
    """Make the model that a strategy chooses live, or a specific model.

    The default strategy is best_score, and specific with `--model-id`.

    Examples:
    - `frontrunner deploy digits --strategy most_recent --algorithm-name svm`
    - `frontrunner deploy digits --model-id 7`
    - `frontrunner deploy digits --plan` (only reports what would go live)
    """
    default = "best_score" if given["model_id"] is None else "specific"
    _deploy(given | {"strategy": given["strategy"] or default}, as_json)


@app.command(rich_help_panel=PANEL)
@takes(ChooseParameters)
def best_score(given: Given, as_json: AsJson = False) -> None:
    """Make the trained model with the highest key metric live.

    Example: `frontrunner best-score digits --algorithm-name svm`
    """
    _deploy(given | {"strategy": "best_score"}, as_json)


@app.command(rich_help_panel=PANEL)
@takes(ChooseParameters)
def most_recent(given: Given, as_json: AsJson = False) -> None:
    """Make the newest trained model live.

    Example: `frontrunner most-recent digits`
    """
    _deploy(given | {"strategy": "most_recent"}, as_json)


@app.command(rich_help_panel=PANEL)
@takes(RollbackParameters)
def rollback(given: Given, as_json: AsJson = False) -> None:
    """Go back to the model that was live before this one. A second rollback undoes the first.

    Examples:
    - `frontrunner rollback digits`
    - `frontrunner rollback digits --quarantine --reason 'it refuses every loan'`
    - `frontrunner rollback digits --to-seq 3`
    """
    _deploy(given | {"strategy": "rollback"}, as_json)


@app.command(rich_help_panel=PANEL)
def quarantine(
    model_id: ModelId,
    reason: Annotated[str, typer.Option(help="Why. The reason is shown wherever the model is listed.")],
    as_json: AsJson = False,
) -> None:
    """Keep a model from being chosen, whatever its score, until it is released.

    Example: `frontrunner quarantine 7 --reason 'trained on a broken export'`
    """
    from tasks.promotion import manual  # heavy: imports SQLAlchemy, which `--help` does not need

    record, is_live = manual.quarantine(model_id, reason)
    if as_json:
        print_json({"model_id": record.id, "quarantine": record.quarantine, "live": is_live})
        return
    print(f"model {record.id} ({record.algorithm}) is in quarantine: {record.quarantine}")
    if is_live:
        print("it is still live: roll back, or deploy another")


@app.command(rich_help_panel=PANEL)
def release(model_id: ModelId, as_json: AsJson = False) -> None:
    """Let a model that was in quarantine be chosen again.

    Example: `frontrunner release 7`
    """
    from tasks.promotion import manual  # heavy: imports SQLAlchemy, which `--help` does not need

    record = manual.release(model_id)
    if as_json:
        print_json({"model_id": record.id, "quarantine": record.quarantine})
    else:
        print(f"model {record.id} ({record.algorithm}) may be chosen again")


@app.command(rich_help_panel=PANEL)
def replay(
    decision_id: Annotated[int, typer.Argument(help="The decision's id, as `frontrunner decisions` lists it.")],
    as_json: AsJson = False,
) -> None:
    """Compute a decision again from its snapshot and files, and compare the result with its receipt.

    Nothing is written. The exit code is 1 if they differ.

    Example: `frontrunner replay 3`
    """
    from tasks.promotion import automatic  # heavy: imports pandas and scikit-learn

    replayed = automatic.replay(decision_id)
    decision, verdict, differences = replayed.decision, replayed.verdict, replayed.differences
    if as_json:
        print_json({**flat(decision), "same": not differences, "differences": differences})
    else:
        print(f"decision {decision_id} of {decision.decided_at:%Y-%m-%d %H:%M} UTC, {decision.code_version}")
        print(f"receipt: {'deployed' if decision.deployed else 'not deployed'}: {decision.reason}")
        print(f"again:   {'deployed' if verdict.deploy else 'not deployed'}: {verdict.reason}")
        print("\n".join(differences) or "the same verdict, to the last digit")
    if differences:
        sys.exit(1)


def _deploy(given: Given, as_json: bool) -> None:
    """Deploy without Prefect and MLflow. A background process announces the deployment to them."""
    from tasks.promotion import announce, deploy_request, manual  # heavy: imports SQLAlchemy

    request = deploy_request.checked_deploy(**given)
    result = manual.deploy(request, uuid4().hex, announce.announce_in_background)
    if as_json:
        row = asdict(result)
        print_json({field: row[field] for field in row if field != "planned" or result.planned})
        return
    print(manual.describe(result, request, expect_option="--expect-model-id"))
