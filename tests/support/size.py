"""The size of the promises' tests; `TORTURE=20` is twenty times what fits into CI."""

import os

TIMES = int(os.environ.get("TORTURE", "1"))
TORTURE = TIMES > 1


def sized(usual: int) -> int:
    return usual * TIMES


def tell(**figures: object) -> None:
    """Print a test's counts for the table in docs/reliability.md; `pytest -rP` shows them."""
    print(", ".join(f"{name}: {figure}" for name, figure in figures.items()))
