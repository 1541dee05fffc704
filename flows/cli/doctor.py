"""`frontrunner doctor`: is everything that serves here there, and in step; and if not, what mends it."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flows.local.worker import POOL
from registry import queries, session, settings
from registry.choices import DeployRequest, chosen
from registry.errors import FrontrunnerError, NoCandidate, PrefectRefused, without_credentials
from registry.queries import ProjectSummary
from registry.schema import REVISION
from registry.serving.artifacts import verified
from registry.timeouts import with_timeout
from registry.values import ModelRecord
from registry.vocabulary import Strategy

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

SECONDS = 20  # for each check


@dataclass(frozen=True, slots=True)
class Finding:
    """One part and how it is; `ok` is None where there is nothing to check. `said` ends with the mend if it is bad."""

    part: str
    ok: bool | None
    said: str


def examine() -> Iterator[Finding]:
    """One finding after the other, as they are made; nothing is changed, and nothing waits longer than SECONDS."""
    registry = _finding("registry", _registry)
    yield registry
    mlflow = _finding("MLflow", _mlflow)
    yield mlflow
    prefect = _finding("Prefect", _prefect)
    yield prefect
    if prefect.ok:
        yield _finding("worker", _worker)
        yield _finding("deployments", _deployments)
    for project in queries.projects() if registry.ok else []:
        name = project.project_name
        if mlflow.ok:
            yield _finding(f"alias of {name}", lambda project=project: _alias(project))  # type: ignore[misc]
        yield _finding(f"files of {name}", lambda name=name: _files(name))  # type: ignore[misc]
        if mlflow.ok:
            yield _finding(f"leftovers of {name}", lambda name=name: _leftovers(name))  # type: ignore[misc]


def _finding(part: str, check: Callable[[], tuple[bool | None, str]]) -> Finding:
    try:
        return Finding(part, *with_timeout(SECONDS, part, check))
    except TimeoutError:
        return Finding(part, False, f"no answer in {SECONDS} s: is its server up?")
    except FrontrunnerError as error:
        return Finding(part, False, str(error))
    except Exception as error:  # noqa: BLE001  (whatever a server answers is a finding)
        return Finding(part, False, f"{type(error).__name__}: {' '.join(str(error).split())}")


def _registry() -> tuple[bool | None, str]:
    where = session.registry_url().set(query={}).render_as_string()
    version = session.version()
    if version is None:
        return None, f"{where} is empty; the first training fills it"
    if version != REVISION:
        behind = version < REVISION
        return False, f"{where} is at version {version}, this is {REVISION}: " + (
            "run `frontrunner upgrade`" if behind else "upgrade Frontrunner"
        )
    return True, f"{where}, version {version}"


def _mlflow() -> tuple[bool | None, str]:
    from tasks.tracking.store import client, translated

    uri = settings.tracking_uri()
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():
        return None, "there is no store yet; the first training makes it"
    with translated():
        client().search_experiments(max_results=1)
    return True, str(settings.mlflow_ui() or uri)


def _prefect() -> tuple[bool | None, str]:
    from prefect.exceptions import PrefectHTTPStatusError
    from prefect.settings import get_current_settings

    url = get_current_settings().api.url
    if not url:
        return None, "no server: a training starts a temporary one; `frontrunner up` starts one with its pages"
    with _client() as client:
        if error := client.api_healthcheck():
            return False, f"{url} does not answer ({error}): start it, or unset PREFECT_API_URL"
        try:
            client.api_version()
        except PrefectHTTPStatusError as error:
            raise PrefectRefused(without_credentials(url), error.response.status_code) from error
    return True, url


def _worker() -> tuple[bool | None, str]:
    from prefect.exceptions import ObjectNotFound

    start = f"`frontrunner up`, or `prefect worker start --pool {POOL}`"
    with _client() as client:
        try:
            client.read_work_pool(POOL)
        except ObjectNotFound:
            return False, f"there is no work pool {POOL!r}: {start} makes it"
        found = client.request("POST", f"/work_pools/{POOL}/workers/filter").raise_for_status().json()  # type: ignore[arg-type]
    online = [worker["name"] for worker in found if worker["status"] == "ONLINE"]
    if online:
        return True, ", ".join(online)
    return False, f"no worker of the pool {POOL!r} is alive, so nothing that is due will run: {start}"


def _deployments() -> tuple[bool | None, str]:
    import yaml
    from prefect.exceptions import ObjectNotFound

    file = Path("prefect.yaml")
    if not file.exists():
        return None, "there is no prefect.yaml here to compare with"
    missing = []
    wanted = [_full_name(each) for each in yaml.safe_load(file.read_text())["deployments"]]
    with _client() as client:
        for name in wanted:
            try:
                client.read_deployment_by_name(name)
            except ObjectNotFound:
                missing.append(name)
    if missing:
        return False, f"not on the server: {', '.join(missing)}; run `prefect --no-prompt deploy --all`"
    return True, f"all {len(wanted)} of prefect.yaml are on the server"


def _full_name(deployment: dict[str, str]) -> str:
    """As Prefect calls it: the flow's name before the deployment's own."""
    flow = deployment["entrypoint"].rpartition(":")[2].replace("_", "-")
    return f"{flow}/{deployment['name']}"


def _alias(project: ProjectSummary) -> tuple[bool | None, str]:
    from tasks.tracking.alias import mirrored_model_id

    if project.model_id is None:
        return None, "nothing is live"
    found = mirrored_model_id(queries.project(project.project_name).id)
    if found == project.model_id:
        return True, f"model {found}, as the registry has it"
    names = f"model {found}" if found else "nothing"
    return False, f"names {names}, but model {project.model_id} is live: run `frontrunner reconcile`"


def _leftovers(project_name: str) -> tuple[bool | None, str]:
    """What a reconcile would mend, but for the alias, which has a line of its own."""
    from tasks.upkeep.reconcile import reconcile

    found = [deed for deed in reconcile(project_name, dry_run=True) if deed.what != "mirrored"]
    if not found:
        return True, "none"
    more = f", and {len(found) - 1} more" if found[1:] else ""
    mend = "run `frontrunner reconcile`" if any(deed.done for deed in found) else "`frontrunner reconcile` lists them"
    return False, f"{found[0].said}{more}: {mend}"


def _files(project_name: str) -> tuple[bool | None, str]:
    """Of what answers, and of what a rollback would bring back."""
    live = queries.live_model(project_name)
    if live is None:
        return None, "nothing is live"
    models = [live]
    with suppress(NoCandidate):
        models.append(chosen(DeployRequest(project_name, Strategy.ROLLBACK))[0])
    for model in models:
        _verify(model)
    return True, f"model {live.id} is what was recorded" + (f", and so is {models[1].id}" if models[1:] else "")


def _verify(model: ModelRecord) -> None:
    assert model.artifact is not None, "a model that was deployed was saved"
    with verified(model.artifact):
        pass


def _client() -> "SyncPrefectClient":
    from prefect.client.orchestration import get_client

    return get_client(sync_client=True)
