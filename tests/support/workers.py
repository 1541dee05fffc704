"""Concurrent workers that deploy, some of which are killed, until there are enough actions and kills."""

import time
from collections.abc import Callable
from pathlib import Path
from random import Random

from tests.support.actions import ENOUGH, at_work
from tests.support.fork_server import ForkServer
from tests.support.size import sized
from tests.support.story import Story

PATIENCE_SECONDS = sized(600)


class Workers:
    """Workers in this folder, on one project with models to deploy; a killed worker is replaced."""

    def __init__(
        self,
        fork_server: ForkServer,
        size: int,
        *,
        work: Callable[[int, list[int]], None] = at_work,
        story: Story | None = None,
        seed: int = 0,
    ) -> None:
        self._fork_server, self._work, self._draw = fork_server, work, Random(seed)
        story = story or Story()
        self.models = [story.trained(round(self._draw.random(), 2)) for _ in range(12)]
        self._pids = [self._worker(number) for number in range(size)]
        self.killed = 0

    def kill_one(self) -> None:
        number = self._draw.randrange(len(self._pids))
        self._fork_server.kill(self._pids[number])
        self.killed += 1
        self._pids[number] = self._worker(number)

    def work(self, actions: int, kills: int = 0, seconds_between: float = 0.2) -> None:
        """Let them work until so many actions were acknowledged in all and so many workers were killed."""
        until = time.monotonic() + PATIENCE_SECONDS
        kills += self.killed
        while self.done() < actions or self.killed < kills:
            assert time.monotonic() < until, f"{self.done()} actions and {self.killed} killed: too slow"
            time.sleep(self._draw.uniform(0, 2 * seconds_between))
            if self.killed < kills:
                self.kill_one()

    def go_home(self) -> None:
        ENOUGH.touch()
        for pid in self._pids:
            self._fork_server.ended(pid)

    @staticmethod
    def done() -> int:
        return sum(log.read_bytes().count(b"\n") for log in Path().glob("worker-*"))

    def _worker(self, number: int) -> int:
        return self._fork_server.start(self._work, number=number, models=self.models)
