"""`frontrunner up`: Prefect, MLflow, a worker and the prediction service on this machine, started and ended as one."""

import os
import secrets
import shlex
import signal
import sys
from pathlib import Path
from urllib.parse import urlsplit

from flows.local import environment as up_env
from flows.local.ports import HOST, free_port
from flows.local.prefect_server import WITHOUT_TLS
from flows.local.supervise import Together
from registry import settings
from registry.errors import InvalidInput, without_credentials

USER = "frontrunner"

# What the programs are told in any case: nothing calls home, no other site's page can use Prefect, the turns of
# trainings outlive a restart of its server, and MLflow runs no jobs of its own.
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
    """Runs everything until Ctrl-C; the exit code.

    Raises:
        AlreadyUp: another `up` runs in this folder.
        PortTaken: something else listens there.
        InvalidInput: there is no prefect.yaml to deploy.
    """
    if not Path("prefect.yaml").exists():
        raise InvalidInput("there is no prefect.yaml here: stand in Frontrunner's folder")
    os.umask(0o077)  # what the servers keep is their owner's alone
    # Until there is something to end: a library that is being imported may take KeyboardInterrupt for its failure.
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    with up_env.alone():
        ports = {"prefect": prefect_port, "mlflow": mlflow_port, "predictions": port}
        own = _own(ports)
        environment = _environment(own)
        _prepare("mlflow" in own)
        servers = Together()
        for name, command in _commands(own).items():
            servers.add_process(name, "exec " + shlex.join(command), env=environment)
        # A terminal that is closed ends it like Ctrl-C.
        signal.signal(signal.SIGHUP, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
        try:
            servers.loop()
        finally:
            servers.end_what_is_left()
        return 0 if servers.asked else servers.returncode or 1


def _own(ports: dict[str, int]) -> dict[str, int]:
    """The servers to start, by name, with their ports: those that no setting names."""
    theirs = {"prefect"} if _prefect_of_settings() else set()
    if urlsplit(settings.tracking_uri()).scheme in ("http", "https"):
        theirs.add("mlflow")
    return {name: free_port(name, port) for name, port in ports.items() if name not in theirs}


def _prefect_of_settings() -> str | None:
    """A server that the environment or a profile of Prefect's names."""
    from prefect.settings import get_current_settings

    return get_current_settings().api.url


def _commands(own: dict[str, int]) -> dict[str, list[str]]:
    python = [sys.executable, "-m"]
    commands = {
        "prefect": [*python, "prefect", "server", "start", "--host", HOST, "--port", str(own.get("prefect"))],
        "mlflow": [
            *(*python, "mlflow", "server", "--host", HOST, "--port", str(own.get("mlflow")), "--workers", "1"),
            *("--app-name", "basic-auth", "--no-serve-artifacts", "--uvicorn-opts", "--log-level warning"),
        ],
        "predictions": [*python, "flows.cli.main", "serve", "--port", str(own["predictions"])],
    }
    return {name: commands[name] for name in own} | {"worker": [*python, "flows.local.worker"]}


def _environment(own: dict[str, int]) -> dict[str, str]:
    """The parts' environment: whoever runs `up` made its settings, the rest is in the file that only they may read."""
    kept = up_env.read()
    password = kept.get("FRONTRUNNER_PASSWORD") or _secret()
    shared = {
        "FRONTRUNNER_PASSWORD": password,
        # Another one: who may ask for predictions must not be able to run flows.
        "FRONTRUNNER_TOKEN": os.environ.get("FRONTRUNNER_TOKEN") or kept.get("FRONTRUNNER_TOKEN") or _secret(),
        "FRONTRUNNER_URL": f"http://{HOST}:{own['predictions']}",
    }
    private: dict[str, str] = {}
    if theirs := _prefect_of_settings():
        private["PREFECT_API_URL"] = theirs
        print(f"using Prefect at {without_credentials(theirs)}", file=sys.stderr)
    if "prefect" in own:
        origin = f"http://{HOST}:{own['prefect']}"
        shared |= {"PREFECT_API_URL": f"{origin}/api", "PREFECT_API_AUTH_STRING": f"{USER}:{password}"}
        private |= {
            "PREFECT_HOME": os.environ.get("PREFECT_HOME") or str(up_env.home() / "prefect"),
            "PREFECT_SERVER_API_AUTH_STRING": f"{USER}:{password}",
            "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": f"{origin},http://localhost:{own['prefect']}",
            **WITHOUT_TLS,
        }
    if "mlflow" in own:
        hosts = [f"{HOST}:{own['mlflow']}", f"localhost:{own['mlflow']}"]
        shared["MLFLOW_UI_URL"] = f"http://{hosts[0]}"
        private |= {
            "MLFLOW_BACKEND_STORE_URI": settings.tracking_uri(),
            "MLFLOW_DEFAULT_ARTIFACT_ROOT": str(settings.artifact_root()),
            "MLFLOW_SERVER_ALLOWED_HOSTS": ",".join(hosts),
            "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": ",".join(f"http://{host}" for host in hosts),
            "MLFLOW_AUTH_CONFIG_PATH": str(_auth_file()),
            "MLFLOW_AUTH_ADMIN_USERNAME": USER,
            "MLFLOW_AUTH_ADMIN_PASSWORD": password,
            "MLFLOW_FLASK_SERVER_SECRET_KEY": _secret(),
        }
    up_env.write(shared)
    here = ",".join(filter(None, [os.environ.get("no_proxy") or os.environ.get("NO_PROXY"), HOST, "localhost"]))
    private |= {"NO_PROXY": here, "no_proxy": here}
    return os.environ | SETTINGS | private | shared


def _secret() -> str:
    return secrets.token_urlsafe(24)


def _prepare(own_mlflow: bool) -> None:
    """The registry's tables and MLflow's, made before several processes would make them at once."""
    from registry.session import transaction
    from tasks.tracking import store

    with transaction(write=True):
        pass
    if own_mlflow:
        print("preparing MLflow's database", file=sys.stderr)
        store.client()


def _auth_file() -> Path:
    """MLflow wants to be told by a file where its users are: one, made at each start, since half a start breaks it."""
    (up_env.home() / "mlflow-auth.db").unlink(missing_ok=True)
    path = up_env.home() / "mlflow-auth.ini"
    path.write_text(
        f"[mlflow]\ndefault_permission = READ\ndatabase_uri = sqlite:///{up_env.home() / 'mlflow-auth.db'}\n"
    )
    return path
