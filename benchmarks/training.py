"""What the sections that train share: the command, its scores, Prefect's home, and running servers."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.shared import FRONTRUNNER, Options, Ran, Unequal, environment, run, say
from tests.support.up import READY, folder, up


class Trained(NamedTuple):
    """`scores` are the key metrics by algorithm, `fits` the seconds of each one's fit and score."""

    ran: Ran
    scores: dict[str, float]
    fits: dict[str, float]


def train(project: str, asked: list[str], where: Path, env: dict[str, str], **watch: Any) -> Trained:
    """`frontrunner train`, a whole process, every candidate of which has to be trained."""
    ran = run([FRONTRUNNER, "train", project, *asked, "--json"], where, env, **watch)
    rows = json.loads(ran.out)["leaderboard"]
    if failed := [f"{row['algorithm']}: {row['reason']}" for row in rows if row["status"] != "trained"]:
        raise Unequal(f"not every candidate was trained: {'; '.join(failed)}")
    fits = {row["algorithm"]: row["metrics"]["fit_time"] + row["metrics"]["score_time"] for row in rows}
    return Trained(ran, {row["algorithm"]: row["score"] for row in rows}, fits)


def scores(ran: Ran) -> dict[str, float]:
    """What a yardstick's script has printed."""
    found: dict[str, float] = json.loads(ran.out.splitlines()[-1])
    return found


def check_equal(ours: dict[str, float], theirs: dict[str, float], name: str) -> None:
    """To the four digits that are printed. Raises: Unequal."""
    if (mine := _printed(ours)) != (its := _printed(theirs)):
        raise Unequal(f"the scores are {mine}, those of {name} {its}")


def used_prefect_home(where: Path, options: Options) -> Path:
    """Prefect's home as an earlier training has left it, to be copied for each run."""
    say(options, "a first training makes Prefect's home")
    home, first = where / "prefect-home", where / "first"
    first.mkdir()
    asked = ["--task", "classification", "--relation-name", "sklearn:iris", "--y-column-name", "target"]
    train("first", [*asked, "--algorithms", "linear"], first, environment(PREFECT_HOME=str(home)))
    return home


def new_folder(where: Path, prefect_home: Path) -> Path:
    """A new folder with such a home in it."""
    shutil.rmtree(where, ignore_errors=True)
    where.mkdir()
    shutil.copytree(prefect_home, where / "prefect")
    return where


@contextmanager
def servers(where: Path, options: Options) -> Iterator[Path]:
    """A folder in which `frontrunner up` runs, with every table made; commands in it find its servers."""
    say(options, "starting the servers")
    os.environ.update(environment())  # so that they get what everyone gets
    home = folder(where / "up")
    with up(home) as started:
        started.wait_for(READY)
        yield home


def _printed(scores: dict[str, float]) -> dict[str, str]:
    return {name: f"{scores[name]:.4f}" for name in sorted(scores)}
