"""Prefect's artifacts. A failure to make one is a warning: what was deployed stands without its page."""

import hashlib
import logging
import re
from collections.abc import Callable
from typing import TypeVar

from prefect.artifacts import create_markdown_artifact
from prefect.context import FlowRunContext

log = logging.getLogger("frontrunner")

Value = TypeVar("Value")


def publish(key: str, project_name: str, description: str, page: Callable[[], str]) -> None:
    """Put a page on the flow run's; outside of a flow run there is none, and nothing is made."""
    if FlowRunContext.get():
        name = artifact_name(project_name)
        attempt(
            f"the run's page has no {key}",
            lambda: create_markdown_artifact(page(), key=f"{name}-{key}", description=description),
            instead=None,
        )


def attempt(failure: str, work: Callable[[], Value], instead: Value) -> Value:
    """Return what `work` returns, or `instead`, with a warning, where it fails."""
    try:
        return work()
    except Exception as error:  # noqa: BLE001  (whatever it is, the run's result is right and returned)
        reason = " ".join(str(error).split())[:300]
        log.warning("%s: %s: %s", failure, type(error).__name__, reason)
        return instead


def artifact_name(project_name: str) -> str:
    """Return a name of the characters that Prefect allows, another one for each project."""
    name = re.sub("[^a-z0-9]+", "-", project_name.lower()).strip("-")
    if name == project_name:
        return name
    return f"{name}-{hashlib.sha256(project_name.encode()).hexdigest()[:6]}".strip("-")
