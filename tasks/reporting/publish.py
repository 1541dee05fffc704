"""Publish pages as Prefect's artifacts. A failure is logged as a warning, because the deployment is committed."""

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
    """Add a page to the current flow run. Outside of a flow run, do nothing."""
    if FlowRunContext.get():
        name = artifact_name(project_name)
        attempt(
            f"the run's page has no {key}",
            lambda: create_markdown_artifact(page(), key=f"{name}-{key}", description=description),
            instead=None,
        )


def attempt(failure: str, work: Callable[[], Value], instead: Value) -> Value:
    """Return the result of `work`; if it fails, log a warning and return `instead`."""
    try:
        return work()
    except Exception as error:  # noqa: BLE001  (any failure: the run's result is returned all the same)
        reason = " ".join(str(error).split())[:300]
        log.warning("%s: %s: %s", failure, type(error).__name__, reason)
        return instead


def artifact_name(project_name: str) -> str:
    """Return a name that Prefect allows as a key, different for each project."""
    name = re.sub("[^a-z0-9]+", "-", project_name.lower()).strip("-")
    if name == project_name:
        return name
    return f"{name}-{hashlib.sha256(project_name.encode()).hexdigest()[:6]}".strip("-")
