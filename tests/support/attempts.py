"""Run the tests of one promise on the copy of the code in this folder; nothing else of ours is imported."""

import os
import sys
from pathlib import Path


def run_promise(promise: str, chosen: str) -> None:
    """Run the tests and write pytest's exit code to a file; its output is in the log of the fork server."""
    import pytest

    for name in [name for name in os.environ if name.startswith("PYTEST_")]:
        del os.environ[name]
    for name in [name for name in sys.modules if name.partition(".")[0] == "tests"]:
        del sys.modules[name]
    sys.path.insert(0, str(Path.cwd()))
    files = sorted(map(str, Path("tests/promises").glob(f"test_{promise}.py")))
    options = ["-x", "-q", "--assert=plain", "-p", "no:cacheprovider", "-p", "no:xdist", "-m", "not slow", "-k", chosen]
    Path("code").write_text(str(int(pytest.main([*options, *files]))))
