"""The command that trains."""

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
from registry.errors import PrefectRefused, PrefectUnavailable, without_credentials
from tasks.parameters import TrainParameters

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
    with without_gc():  # these imports take seconds, which the server's start uses
        if not settings.candidates_on():
            from tasks.training import processes

            processes.start_server()  # its imports go on beside those of Prefect
        from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

        from flows.train import train as flow
        from tasks.reporting.tables import leaderboard
    if server:
        server.wait()
    else:
        _check_prefect()
    signal.signal(signal.SIGTERM, _end)
    # The heartbeat thread would delay the command's exit by up to a second.
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        result: Any = flow(**given)
    if as_json:
        print_json(result)
        return
    head, *rows = leaderboard(result)
    print_table(head, rows)
    print(f"{'deployed' if result.deployed else 'not deployed'}: {result.reason}")


def _end(*_: Any) -> NoReturn:
    """End with candidates recorded as cancelled, which another signal does not interrupt."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(143)


def _check_prefect() -> None:
    """Raise PrefectUnavailable or PrefectRefused if no flow run could be started."""
    from prefect.client.orchestration import get_client  # heavy: only this command needs Prefect
    from prefect.exceptions import PrefectHTTPStatusError
    from prefect.settings import get_current_settings

    url = str(get_current_settings().api.url)
    with get_client(sync_client=True) as client:
        if error := client.api_healthcheck():
            raise PrefectUnavailable(without_credentials(url)) from error
        try:
            client.api_version()  # needs the password, which the health check does not
        except PrefectHTTPStatusError as error:
            raise PrefectRefused(without_credentials(url), error.response.status_code) from error
