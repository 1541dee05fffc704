"""A million rows of a database, in bounded memory."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

ROWS, COLUMNS = 1_000_000, 50
CODE = """if True:
    import threading, time
    import psutil
    from flows.train import train
    most = 0
    def watch():  # this process and those that it starts
        global most
        this = psutil.Process()
        while True:
            try:
                most = max(most, sum(each.memory_full_info().pss for each in [this, *this.children(recursive=True)]))
            except psutil.NoSuchProcess:  # it has just ended
                pass
            time.sleep(0.1)
    def peak():
        time.sleep(0.3)
        return most
    threading.Thread(target=watch, daemon=True).start()
    asked = {"task": "regression", "algorithms": ["linear", "xgboost"]}
    train("small", relation_name="sklearn:diabetes", y_column_name="target", **asked)  # all libraries are there
    before = peak()
    result = train("large", relation_name="shop:large", y_column_name="y", **asked)
    assert {row.status for row in result.leaderboard} == {"trained"}, result.leaderboard
    assert result.leaderboard[1].score > 0.99
    print("grew by", peak() - before)
"""


@pytest.mark.slow
def test_a_million_rows_of_postgresql_take_less_than_four_times_their_size_as_float32(
    prefect: str, postgres_url: str, mlflow_store: Path
) -> None:
    engine = create_engine(postgres_url)
    numbers = ", ".join(f"random() AS c{number}" for number in range(COLUMNS - 1))
    with engine.begin() as connection:
        connection.execute(
            text(
                f"CREATE TABLE large AS SELECT *, c0 * 2 + c1 + random() / 10 AS y"
                f" FROM (SELECT {numbers} FROM generate_series(1, {ROWS})) AS drawn"
            )
        )
    engine.dispose()
    env = os.environ | {"PREFECT_API_URL": prefect, "SOURCE_SHOP_URL": postgres_url}
    env["PYTHONPATH"] = str(Path(__file__).parents[2])
    done = subprocess.run([sys.executable, "-c", CODE], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    grew = int(done.stdout.split("grew by")[1])
    assert grew < 4 * ROWS * COLUMNS * 4, f"{grew / 2**20:.0f} MB"
