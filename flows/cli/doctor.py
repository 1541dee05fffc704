"""`frontrunner doctor`: check every part of an installation, and name the fix for what is wrong."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import yaml
from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound

from flows.local.prefect_api import check_server
from flows.local.worker import POOL
from registry import queries, session, settings
from registry.choices import DeployRequest, chosen
from registry.errors import FrontrunnerError, NoCandidate
from registry.queries import ProjectSummary
from registry.schema import REVISION
from registry.serving.artifacts import verified
from registry.timeouts import with_timeout
from registry.vocabulary import Strategy
from tasks.tracking.alias import mirrored_model_id
from tasks.tracking.store import client, translated
from tasks.upkeep.reconcile import reconcile

CHECK_SECONDS = 20

Check = Callable[[], tuple[bool | None, str]]


@dataclass(frozen=True, slots=True)
class Finding:
    """The state of one part; `ok` is None if there is nothing to check. If it is False, `said` names the fix."""

    part: str
    ok: bool | None
    said: str


def examine() -> Iterator[Finding]:
    """Yield each finding as soon as it is made. Nothing is changed, and each check has a timeout."""
    yield (registry := _finding("registry", _registry))
    yield (mlflow := _finding("MLflow", _mlflow))
    yield (prefect := _finding("Prefect", _prefect))
    if prefect.ok:
        yield _finding("worker", _worker)
        yield _finding("deployments", _deployments)
    for project in queries.projects() if registry.ok else []:
        name = project.project_name
        if mlflow.ok:
            yield _finding(f"alias of {name}", partial(_alias, project))
        yield _finding(f"files of {name}", partial(_files, name))
        if mlflow.ok:
            yield _finding(f"leftovers of {name}", partial(_leftovers, name))


def _finding(part: str, check: Check) -> Finding:
    try:
        return Finding(part, *with_timeout(CHECK_SECONDS, part, check))
    except TimeoutError:
        return Finding(part, False, f"no answer in {CHECK_SECONDS} s: is its server up?")
    except FrontrunnerError as error:
        return Finding(part, False, str(error))
    except Exception as error:  # noqa: BLE001  (any failure of a server is a finding)
        return Finding(part, False, f"{type(error).__name__}: {' '.join(str(error).split())}")


def _registry() -> tuple[bool | None, str]:
    where = session.registry_url().set(query={}).render_as_string()
    version = session.version()
    if version is None:
        return None, f"{where} is empty; the first training fills it"
    if version == REVISION:
        return True, f"{where}, version {version}"
    fix = "run `frontrunner upgrade`" if version < REVISION else "upgrade Frontrunner"
    return False, f"{where} is at version {version}, this is {REVISION}: {fix}"


def _mlflow() -> tuple[bool | None, str]:
    uri = settings.tracking_uri()
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():
        return None, "there is no store yet; the first training creates it"
    with translated():
        client().search_experiments(max_results=1)
    return True, str(settings.mlflow_ui() or uri)


def _prefect() -> tuple[bool | None, str]:
    url = check_server()
    if url is None:
        return None, "no server: a training starts a temporary one; `frontrunner up` starts one with its pages"
    return True, url


def _worker() -> tuple[bool | None, str]:
    start = f"`frontrunner up`, or `prefect worker start --pool {POOL}`"
    with get_client(sync_client=True) as prefect:
        try:
            prefect.read_work_pool(POOL)
        except ObjectNotFound:
            return False, f"there is no work pool {POOL!r}: {start} creates it"
        workers = prefect.request("POST", f"/work_pools/{POOL}/workers/filter").raise_for_status().json()  # type: ignore[arg-type]
    online = [worker["name"] for worker in workers if worker["status"] == "ONLINE"]
    if online:
        return True, ", ".join(online)
    return False, f"no worker of the pool {POOL!r} is online, so no scheduled run starts: {start}"


def _deployments() -> tuple[bool | None, str]:
    file = Path("prefect.yaml")
    if not file.exists():
        return None, "there is no prefect.yaml here to compare with"
    names = [_full_name(deployment) for deployment in yaml.safe_load(file.read_text())["deployments"]]
    missing = []
    with get_client(sync_client=True) as prefect:
        for name in names:
            try:
                prefect.read_deployment_by_name(name)
            except ObjectNotFound:
                missing.append(name)
    if missing:
        return False, f"not on the server: {', '.join(missing)}; run `prefect --no-prompt deploy --all`"
    return True, f"all {len(names)} of prefect.yaml are on the server"


def _full_name(deployment: dict[str, str]) -> str:
    """Return the name in Prefect: the flow's name, a slash, and the deployment's own."""
    flow = deployment["entrypoint"].rpartition(":")[2].replace("_", "-")
    return f"{flow}/{deployment['name']}"


def _alias(project: ProjectSummary) -> tuple[bool | None, str]:
    if project.model_id is None:
        return None, "nothing is live"
    model_id = mirrored_model_id(queries.project(project.project_name).id)
    if model_id == project.model_id:
        return True, f"model {model_id}, as the registry has it"
    names = f"model {model_id}" if model_id else "nothing"
    return False, f"names {names}, but model {project.model_id} is live: run `frontrunner reconcile`"


def _leftovers(project_name: str) -> tuple[bool | None, str]:
    """Check for what a reconcile would fix, except for the alias, which has a finding of its own."""
    actions = [action for action in reconcile(project_name, dry_run=True) if action.what != "mirrored"]
    if not actions:
        return True, "none"
    more = f", and {len(actions) - 1} more" if actions[1:] else ""
    fixable = any(action.done for action in actions)
    fix = "run `frontrunner reconcile`" if fixable else "`frontrunner reconcile` lists them"
    return False, f"{actions[0].said}{more}: {fix}"


def _files(project_name: str) -> tuple[bool | None, str]:
    """Verify the file of the live model, and of the one that a rollback would bring back."""
    live = queries.live_model(project_name)
    if live is None:
        return None, "nothing is live"
    models = [live]
    with suppress(NoCandidate):
        models.append(chosen(DeployRequest(project_name, Strategy.ROLLBACK))[0])
    for model in models:
        assert model.artifact is not None, "a deployed model has a file"
        with verified(model.artifact):
            pass
    return True, f"model {live.id} is what was recorded" + (f", and so is {models[1].id}" if models[1:] else "")
