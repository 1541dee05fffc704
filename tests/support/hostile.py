"""Hostile values for hypothesis, the number that a test tries, and the allowed outcomes."""

import os
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from registry.errors import FrontrunnerError

TORTURE = "TORTURE" in os.environ  # then each run tries other values, and forty times as many

TEXTS = [
    "",
    " ",
    "\0",
    "a\0b",
    "half \ud800",
    "\n",
    "a\nb",
    "../../etc/passwd",
    "/etc/passwd",
    "'; DROP TABLE projects; --",
    '" OR 1=1',
    "%s{0}$HOME`id`",
    "e\u0301 💶",
    "n" * 201,
    "rollback",
    "linear",
    "sklearn:iris",
    "files:",
    "warehouse:",
    "target",
    "__class__",
    "NaN",
    "-1",
]
TEXT = st.sampled_from(TEXTS) | st.text(max_size=5)
SCALAR = (
    st.none()
    | st.booleans()
    | st.sampled_from([0, 1, -1, 2, 2**31, 2**63, 2**70, -(2**70), 0.5, -0.0, 1e308])
    | st.floats(width=16)
    | TEXT
)
JSON = st.recursive(
    SCALAR,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=4,
)


def examples(count: int) -> settings:
    """Return settings for so many examples, the same at each run unless TORTURE is set."""
    return settings(
        max_examples=count * (40 if TORTURE else 1),
        deadline=None,
        derandomize=not TORTURE,
        database=None,
        print_blob=True,
        phases=[Phase.explicit, Phase.generate, *([Phase.shrink] if TORTURE else [])],
        suppress_health_check=[*HealthCheck],
    )


def refused_or(work: Callable[[], Any]) -> Any:
    """Return the result, or None if it was refused with a message of one line."""
    try:
        return work()
    except FrontrunnerError as error:
        message = str(error)
    assert message.strip()
    assert "\n" not in message
    return None
