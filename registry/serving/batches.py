"""Micro-batching of prediction requests: a model takes hardly longer for sixteen rows than for one."""

import asyncio
from typing import Any

import numpy as np

from registry.serving.predictor import Predictor
from registry.values import LiveModel


class Batches:
    """Queue requests while a Predictor works, then answer them together by one call. For one event loop."""

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor
        self._waiting: list[tuple[Any, asyncio.Future[Any]]] = []
        self._work: asyncio.Task[None] | None = None

    async def answer(self, rows: Any) -> tuple[LiveModel, np.ndarray[Any, Any]]:
        """Answer as Predictor.answer does; each request raises only its own error."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((rows, future))
        if self._work is None or self._work.done():
            self._work = asyncio.create_task(self._answer_all())
        model, answers = await future
        return model, answers

    async def _answer_all(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            try:
                model, results = await asyncio.to_thread(self.predictor.answer_all, [rows for rows, _ in batch])
            except Exception as error:  # noqa: BLE001  (no request may wait for ever)
                model, results = None, [error] * len(batch)
            for (_, future), answers in zip(batch, results, strict=True):
                if future.done():  # the client has disconnected
                    continue
                if isinstance(answers, Exception):
                    future.set_exception(answers)
                else:
                    future.set_result((model, answers))
