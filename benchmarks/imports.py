"""What a command costs before it does anything: whole processes, the disk warm."""

import os
from pathlib import Path

from benchmarks.shared import FRONTRUNNER, PYTHON, Options, Row, alternately, environment, run
from tests.support.story import Story

COMMANDS = {
    "import registry": ([PYTHON, "-c", "import registry"], "≤ 300 ms"),
    "frontrunner --help": ([FRONTRUNNER, "--help"], "≤ 400 ms"),
    "frontrunner history": ([FRONTRUNNER, "history", "digits"], "≤ 1,000 ms"),
}
NOTHING = "python -c pass"


def measure(options: Options, folder: Path) -> list[Row]:
    env = environment(REGISTRY_URL=f"sqlite:///{folder / 'registry.db'}")
    os.environ["REGISTRY_URL"] = env["REGISTRY_URL"]
    Story("digits").trained_and_promoted(0.9)
    commands = {name: command for name, (command, _) in COMMANDS.items()} | {NOTHING: [PYTHON, "-c", "pass"]}
    sides = {name: lambda command=command: run(command, folder, env).seconds for name, command in commands.items()}
    alternately(1, sides)  # the disk is warm then, and every module compiled
    times = alternately(3 if options.quick else 10, sides)
    seconds = {name: [1000 * each for each in found] for name, found in times.items()}
    return [
        Row("imports", name, "ms", seconds[name], NOTHING, seconds[NOTHING], target)
        for name, (_, target) in COMMANDS.items()
    ]
