"""Frontrunner beside its yardsticks: python -m benchmarks [SECTION …]. README.md here says what they mean."""

import argparse
import json
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from benchmarks.shared import Options, Row, as_json, machine, measured, say, table

SECTIONS = ("imports", "registry", "predict", "cold", "warm", "candidates", "long", "rows")


def main() -> int:
    """The exit code: 1 where a section failed; what the others found is printed all the same."""
    asked = arguments()
    options = Options(asked.quick, asked.full, asked.plans, asked.cache and asked.cache.absolute())
    where, rows, failed = machine(), [], []
    for section in asked.section or SECTIONS:
        say(options, f"{section} …")
        try:
            rows += alone(section, options)
        except Exception as error:  # noqa: BLE001  (whatever it is, the other sections go on)
            failed.append(section)
            say(options, f"{section} failed: {type(error).__name__}: {error}")
    if asked.json:
        asked.json.write_text(json.dumps(as_json(rows, where) | {"failed": failed}, indent=1) + "\n")
    print(table(rows, where))
    say(options, f"failed: {', '.join(failed)}" if failed else "done")
    return 1 if failed else 0


def alone(section: str, options: Options) -> list[Row]:
    """In a process of its own: what one section has loaded is no burden to the next."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(measured, section, options).result()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("section", nargs="*", choices=[*SECTIONS, []], help="none: every one")
    parser.add_argument("--json", type=Path, metavar="FILE", help="every measurement, as JSON")
    parser.add_argument("--quick", action="store_true", help="small sizes, few rounds: to try it, not to believe it")
    parser.add_argument("--full", action="store_true", help="rows: ten million of them, too, whatever memory is free")
    parser.add_argument("--plans", action="store_true", help="registry: print the databases' query plans, too")
    parser.add_argument("--cache", type=Path, metavar="FOLDER", help="keep generated rows there for the next time")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
