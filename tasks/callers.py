"""Who asks: the flow run or the person, and the key that makes a retry the same request."""

import getpass
import socket
from uuid import uuid4

from prefect.context import FlowRunContext
from prefect.runtime import flow_run


def request_key() -> str:
    """The same for every retry of one flow run, another for each call outside of one."""
    context = FlowRunContext.get()  # not `flow_run.get_id()`: a command that a flow run starts would find its id
    return str(context.flow_run.id) if context and context.flow_run else uuid4().hex


def requested_by() -> str:
    """The flow run that asks, or the person at the terminal."""
    run_id = flow_run.get_id()
    return f"flow run {run_id}" if run_id else f"{_user()}@{socket.gethostname()}"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return "unknown"
