"""Announce to MLflow and Prefect what went live, here or in a process of its own.

The deployment is committed by then, so nothing that goes wrong here fails a deploy: it is a line in the log, and
`frontrunner doctor` and `reconcile` find and fix an alias that lags behind. MLflow and Prefect are imported only when
they are needed, because a manual deploy has to work where they cannot be.
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
    """Let MLflow's alias follow, and emit Prefect's event if the deploy changed something; both in bounded time."""
    _mirror(result.project_name)
    if result.changed:
        _emit(result)


def announce_in_background(result: DeployResult) -> None:
    """Let a process of its own announce the result, and return at once.

    It writes to a file, because a caller that reads a command's output would wait for the end of an inherited pipe.
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
    """Announce a deployment of a project, or without its `seq` only let MLflow's alias follow."""
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
        from tasks.tracking.alias import mirror_live
    except ImportError as error:
        log.warning("MLflow's alias does not follow: %s", error)
    else:
        mirror_live(project_name)


def _emit(result: DeployResult) -> None:
    try:
        from tasks.promotion.events import emit_deployed
    except ImportError as error:
        log.warning("Prefect gets no event: %s", error)
    else:
        emit_deployed(result)


if __name__ == "__main__":
    main(*sys.argv[1:])
    exit_process(0)
