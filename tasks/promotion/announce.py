"""Announce a deployment to MLflow and Prefect, in this process or in a background process.

The deployment is already committed, so a failure here is only logged. `frontrunner doctor` and `reconcile` find and
fix an alias that lags behind. MLflow and Prefect are imported only when they are needed, because a manual deploy has to
work even if they cannot be imported.
"""

import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from registry import history, settings
from registry.errors import ArtifactChanged, ArtifactMissing, ArtifactUnusable, Unproven
from registry.timeouts import exit_process
from registry.values import DeployResult

log = logging.getLogger("frontrunner")

UNPROVEN = (ArtifactMissing, ArtifactChanged, ArtifactUnusable, Unproven)
Announcer = Callable[[DeployResult], None]


def announce(result: DeployResult) -> None:
    """Set MLflow's alias, and emit Prefect's event if the deploy changed something. Both have a timeout."""
    _mirror(result.project_name)
    if result.changed:
        _emit(result)


def announce_in_background(result: DeployResult) -> None:
    """Start a process that announces the result, and return at once.

    The process writes to a file. If it inherited a pipe, whoever reads the command's output would wait for it, too.
    """
    command = [sys.executable, "-P", "-m", "tasks.promotion.announce", result.project_name]
    if result.changed:
        command.append(str(result.seq))
    try:
        path = Path(settings.HOME) / "announce.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            subprocess.Popen(  # noqa: S603  (our own module)
                command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
            )
    except OSError as error:
        log.warning("the deployment stands, but could not be announced, so run `frontrunner reconcile`: %s", error)


def main(project_name: str, seq: str | None = None) -> None:
    """Announce a deployment of a project. Without its `seq`, only set MLflow's alias."""
    logging.basicConfig(format="%(asctime)s  %(message)s", level=logging.WARNING)
    log.setLevel(logging.INFO)
    result = history.find_deployment_at(project_name, int(seq)) if seq else None
    if result is None:
        _mirror(project_name)
    else:
        announce(result)
    log.info("%s: deployment %s was announced", project_name, seq or "of the live model")


def _mirror(project_name: str) -> None:
    try:
        from tasks.tracking.alias import mirror_live  # a deploy has to work without MLflow
    except ImportError as error:
        log.warning("MLflow's alias was not set: %s", error)
    else:
        mirror_live(project_name)


def _emit(result: DeployResult) -> None:
    try:
        from tasks.promotion.events import emit_deployed  # a deploy has to work without Prefect
    except ImportError as error:
        log.warning("the deployment was not announced to Prefect: %s", error)
    else:
        emit_deployed(result)


if __name__ == "__main__":
    main(*sys.argv[1:])
    exit_process(0)
