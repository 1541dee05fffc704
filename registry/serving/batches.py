"""Requests that come at once are answered at once: a model takes hardly longer for sixteen rows than for one."""

import asyncio
from typing import TYPE_CHECKING, Any

from registry.serving.predictor import Predictor
from registry.values import LiveModel

if TYPE_CHECKING:
    import numpy as np


class Batches:
    """What is asked while a Predictor is at work waits, and is then answered by one call. For one event loop."""

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor
        self._waiting: list[tuple[Any, asyncio.Future[Any]]] = []
        self._work: asyncio.Task[None] | None = None

    async def answer(self, rows: Any) -> "tuple[LiveModel, np.ndarray[Any, Any]]":
        """As Predictor.answer does it; errors are each request's own."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((rows, future))
        if self._work is None or self._work.done():
            self._work = asyncio.create_task(self._answer_all())
        model, answers = await future
        return model, answers

    async def _answer_all(self) -> None:
        while self._waiting:
            taken, self._waiting = self._waiting, []
            try:
                model, found = await asyncio.to_thread(self.predictor.answer_all, [rows for rows, _ in taken])
            except Exception as error:  # noqa: BLE001  (whatever it is: nobody may wait for ever)
                model, found = None, [error] * len(taken)
            for (_, future), answers in zip(taken, found, strict=True):
                if future.done():  # who asked is gone
                    continue
                if isinstance(answers, Exception):
                    future.set_exception(answers)
                else:
                    future.set_result((model, answers))
