"""How large the tests of the promises are: `TORTURE=20` is twenty times what fits into CI."""

import os

TIMES = int(os.environ.get("TORTURE", "1"))
TORTURE = TIMES > 1


def sized(usual: int) -> int:
    return usual * TIMES


def tell(**figures: object) -> None:
    """What a test went through, for the table in docs/reliability.md; `pytest -rP` shows it."""
    print(", ".join(f"{name}: {figure}" for name, figure in figures.items()))
