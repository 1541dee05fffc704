"""The command `train`."""

import logging
import signal
import sys
from typing import Any, NoReturn

import typer

from flows.cli.options import AsJson, Given, takes
from flows.cli.output import print_json, print_table
from flows.local import prefect_server
from flows.local.importing import without_gc
from registry import settings
from tasks.parameters import TrainParameters
from tasks.reporting.tables import leaderboard

app = typer.Typer()


@app.command(rich_help_panel="Train and deploy")
@takes(TrainParameters)
def train(given: Given, as_json: AsJson = False) -> None:
    """Train candidates and deploy the best one if it beats the live model.

    Repeat `--algorithms` or separate the names by commas; the same holds for the columns of `--y-column-name`.

    Examples:
    - `frontrunner train digits --task classification --relation-name sklearn:digits --y-column-name target`
    - `frontrunner train digits --algorithms svm,extra_trees` (the same rows again)
    - `frontrunner train digits --algorithms svm --search grid --search-params '{"C": [1, 10]}'`
    """
    server = prefect_server.begin()
    if server:
        log = logging.getLogger("frontrunner")
        log.info("starting a temporary Prefect server; set PREFECT_API_URL to use one that runs")
    with without_gc():
        if not settings.candidates_on():
            from tasks.training import processes  # heavy, as are the imports below: `--help` does not need them

            processes.start_server()  # it imports what it needs at the same time as this process
        from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings  # heavy

        from flows.local.prefect_api import check_server  # heavy
        from flows.train import train as flow  # heavy
    if server:
        server.wait()
    else:
        check_server()
    signal.signal(signal.SIGTERM, _end)
    # The heartbeat thread would delay the command's exit by up to a second.
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        result: Any = flow(**given)
    if as_json:
        print_json(result)
        return
    print_table(*leaderboard(result))
    print(f"{'deployed' if result.deployed else 'not deployed'}: {result.reason}")


def _end(*_: Any) -> NoReturn:
    """Exit, so that the candidates are recorded as cancelled. Further signals are ignored."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(143)
