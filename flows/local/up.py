"""`frontrunner up`: run Prefect, MLflow, a worker and the prediction service on this machine."""

import os
import secrets
import signal
import sys
from pathlib import Path
from urllib.parse import urlsplit

from flows.local import environment as up_env
from flows.local.environment import USER
from flows.local.ports import HOST, free_port
from flows.local.supervise import ProcessGroup
from registry import settings
from registry.errors import InvalidInput, without_credentials
from registry.session import transaction
from tasks.tracking import store

# Settings of every program: no telemetry, no use of Prefect by pages of other sites, concurrency leases that outlive a
# restart of Prefect's server, and no background jobs of MLflow.
SETTINGS = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
    "PREFECT_CLI_PROMPT": "false",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PYTHONUNBUFFERED": "1",
}


def up(prefect_port: int, mlflow_port: int, port: int) -> int:
    """Run everything until Ctrl-C, and return the exit code.

    Raises:
        AlreadyUp: another `up` runs in this folder.
        PortTaken: another program listens on a port.
        InvalidInput: there is no prefect.yaml.
    """
    if not Path("prefect.yaml").exists():
        raise InvalidInput("there is no prefect.yaml here: run this in Frontrunner's folder")
    os.umask(0o077)  # only the owner can read what the servers store
    # There is nothing to end yet, and a library might handle a KeyboardInterrupt that is raised during its import.
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    with up_env.lock_folder():
        ports = _own_ports({"prefect": prefect_port, "mlflow": mlflow_port, "predictions": port})
        environment = _environment(ports)
        _create_stores("mlflow" in ports)
        return ProcessGroup(_commands(ports), environment).run()


def _own_ports(ports: dict[str, int]) -> dict[str, int]:
    """Return the ports of the servers to start, by name. A server that a setting names is not started."""
    named = {"prefect"} if _prefect_of_settings() else set()
    if urlsplit(settings.tracking_uri()).scheme in ("http", "https"):
        named.add("mlflow")
    return {name: free_port(name, port) for name, port in ports.items() if name not in named}


def _prefect_of_settings() -> str | None:
    """Return the address of the server that the environment or a profile of Prefect names."""
    from prefect.settings import get_current_settings  # heavy: the folder is checked first

    return get_current_settings().api.url


def _commands(ports: dict[str, int]) -> dict[str, list[str]]:
    """Return the programs to start. The worker is the last, so that it ends before the servers that it needs."""
    python = [sys.executable, "-m"]
    commands = {
        "prefect": [*python, "prefect", "server", "start", "--host", HOST, "--port", str(ports.get("prefect"))],
        "mlflow": [
            *(*python, "mlflow", "server", "--host", HOST, "--port", str(ports.get("mlflow")), "--workers", "1"),
            *("--app-name", "basic-auth", "--no-serve-artifacts", "--uvicorn-opts", "--log-level warning"),
        ],
        "predictions": [*python, "flows.cli.main", "serve", "--port", str(ports["predictions"])],
    }
    return {name: commands[name] for name in ports} | {"worker": [*python, "flows.local.worker"]}


def _environment(ports: dict[str, int]) -> dict[str, str]:
    """Return the environment of the programs, and store the part that other programs need in up.env."""
    stored = up_env.read()
    password = stored.get("FRONTRUNNER_PASSWORD") or _secret()
    shared = {
        "FRONTRUNNER_PASSWORD": password,
        # Different from the password, because a client of the predictions must not be able to run flows.
        "FRONTRUNNER_TOKEN": os.environ.get("FRONTRUNNER_TOKEN") or stored.get("FRONTRUNNER_TOKEN") or _secret(),
        "FRONTRUNNER_URL": f"http://{HOST}:{ports['predictions']}",
    }
    private = {name: f"{_no_proxy()}{HOST},localhost" for name in ("NO_PROXY", "no_proxy")}
    if named := _prefect_of_settings():
        print(f"using Prefect at {without_credentials(named)}", file=sys.stderr)
        private["PREFECT_API_URL"] = named
    if "prefect" in ports:
        origin = f"http://{HOST}:{ports['prefect']}"
        shared |= {"PREFECT_API_URL": f"{origin}/api", "PREFECT_API_AUTH_STRING": f"{USER}:{password}"}
        private |= _prefect_server(ports["prefect"], password)
    if "mlflow" in ports:
        shared["MLFLOW_UI_URL"] = f"http://{HOST}:{ports['mlflow']}"
        private |= _mlflow_server(ports["mlflow"], password)
    up_env.write(shared)
    return os.environ | SETTINGS | private | shared


def _prefect_server(port: int, password: str) -> dict[str, str]:
    return {
        "PREFECT_HOME": os.environ.get("PREFECT_HOME") or str(up_env.home() / "prefect"),
        "PREFECT_SERVER_API_AUTH_STRING": f"{USER}:{password}",
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": f"http://{HOST}:{port},http://localhost:{port}",
    }


def _mlflow_server(port: int, password: str) -> dict[str, str]:
    hosts = [f"{HOST}:{port}", f"localhost:{port}"]
    return {
        "MLFLOW_BACKEND_STORE_URI": settings.tracking_uri(),
        "MLFLOW_DEFAULT_ARTIFACT_ROOT": str(settings.artifact_root()),
        "MLFLOW_SERVER_ALLOWED_HOSTS": ",".join(hosts),
        "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": ",".join(f"http://{host}" for host in hosts),
        "MLFLOW_AUTH_CONFIG_PATH": str(_mlflow_auth_file()),
        "MLFLOW_AUTH_ADMIN_USERNAME": USER,
        "MLFLOW_AUTH_ADMIN_PASSWORD": password,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": _secret(),
    }


def _mlflow_auth_file() -> Path:
    """Write the configuration of MLflow's users. Their database is recreated, because an aborted start breaks it."""
    users = up_env.home() / "mlflow-auth.db"
    users.unlink(missing_ok=True)
    path = up_env.home() / "mlflow-auth.ini"
    uri = f"sqlite:///{users}".replace("%", "%%")  # configparser interpolates %
    path.write_text(f"[mlflow]\ndefault_permission = READ\ndatabase_uri = {uri}\n")
    return path


def _no_proxy() -> str:
    """Return the hosts for which the user's environment uses no proxy, followed by a comma."""
    hosts = os.environ.get("no_proxy") or os.environ.get("NO_PROXY")
    return f"{hosts}," if hosts else ""


def _secret() -> str:
    return secrets.token_urlsafe(24)


def _create_stores(own_mlflow: bool) -> None:
    """Create the tables of the registry and of MLflow before several programs need them at once."""
    with transaction(write=True):
        pass
    if own_mlflow:
        print("preparing MLflow's database", file=sys.stderr)
        store.client()
