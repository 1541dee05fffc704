"""The entry of the command line, its environment and its log. Each group of commands is a module."""

import logging
import os
import sys
import warnings
from importlib.metadata import version
from typing import Annotated, Any, NoReturn

import typer

from flows.cli import deploy, operate, predict, show, train, transfer
from flows.local import environment
from registry.errors import FrontrunnerError
from registry.serving.artifacts import bound_mlflow
from registry.timeouts import exit_process, skip_teardown

app = typer.Typer(
    name="frontrunner",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(given: bool) -> None:
    if given:
        print(f"frontrunner {version('frontrunner')}")
        raise typer.Exit


@app.callback()
def every_command(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Train candidates, deploy the better model automatically, roll back manually.

    `frontrunner COMMAND --help` describes a command and gives examples.
    """


for group in (train, deploy, show, predict, operate, transfer):
    app.add_typer(group.app)

# Prefect sends no telemetry and prints nothing on the terminal; our progress goes to the run's log.
PREFECT_DEFAULTS = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_LOGGING_EXTRA_LOGGERS": "frontrunner",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
}


def main() -> NoReturn:
    """Run a command. The exit code is 0, 1 for an error, which is printed in one line, or 2 for wrong usage."""
    skip_teardown()
    if sys.argv[1:2] == ["train"]:
        set_defaults()
    else:
        _default(environment.of_running())
    _configure_log()
    try:
        app()
    except FrontrunnerError as error:
        print(f"error: {error}", file=sys.stderr)
        exit_process(1)
    except SystemExit as end:
        exit_process(end.code)
    exit_process(0)


def set_defaults() -> None:
    """Set the environment of `train`."""
    _default(environment.of_running())
    _default(PREFECT_DEFAULTS)
    bound_mlflow()


def _default(values: dict[str, str]) -> None:
    for variable, value in values.items():
        os.environ.setdefault(variable, value)


def _configure_log() -> None:
    """Write progress and warnings to the error stream, a line each."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s  %(message)s", datefmt="%H:%M:%S"))
    log = logging.getLogger("frontrunner")
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False

    def show(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        log.warning("%s: %s", category.__name__, str(message).strip().split("\n", 1)[0].rstrip(":"))

    warnings.showwarning = show


if __name__ == "__main__":
    main()
