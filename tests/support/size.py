"""How large the tests of the promises are: they fit into CI, and `TORTURE=1` lets them run for minutes."""

import os

TORTURE = bool(os.environ.get("TORTURE"))


def sized(usual: int, torture: int) -> int:
    return torture if TORTURE else usual


def tell(**figures: object) -> None:
    """What a test went through, for the table in docs/reliability.md: shown by `pytest -rP`, kept by no one else."""
    print(", ".join(f"{name}: {figure}" for name, figure in figures.items()))
