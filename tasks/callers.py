"""The flow run or person that makes a request, and the key by which a retry is the same request.

Prefect is used only if it is imported already, because a deploy from the command line works without it.
"""

import getpass
import os
import socket
import sys
from uuid import uuid4


def request_key() -> str:
    """Return a key that is the same for every retry of one flow run, and another for each call outside of one.

    A command that a flow run starts is such a call, though it knows the run's id.
    """
    if "prefect" not in sys.modules:
        return uuid4().hex
    from prefect.context import FlowRunContext  # optional, and imported already

    context = FlowRunContext.get()
    return str(context.flow_run.id) if context and context.flow_run else uuid4().hex


def requested_by() -> str:
    """Return the flow run that makes the request, or the user of the terminal."""
    run_id = _flow_run_id()
    return f"flow run {run_id}" if run_id else f"{_user()}@{socket.gethostname()}"


def _flow_run_id() -> str | None:
    """Return the id of this process's flow run. A process that a flow run started has it in the environment."""
    if "prefect" not in sys.modules:
        return os.environ.get("PREFECT__FLOW_RUN_ID")
    from prefect.runtime import flow_run  # optional, and imported already

    return flow_run.get_id()


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user of a container may have no name
        return "unknown"
