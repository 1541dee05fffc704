"""Files that are damaged, or were made to do damage: a typed error, or a training on exactly what they hold."""

import os
import stat
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pyarrow import csv, parquet

from registry.errors import BadData, InvalidInput, UnknownRelation
from registry.timeouts import with_timeout
from registry.vocabulary import Task
from tasks.data import sources
from tasks.data.checks import refuse_duplicate_columns
from tasks.data.outputs import writer
from tasks.data.snapshots import freeze
from tasks.data.statistics import column_statistics
from tests.support.hostile import TEXT, examples, refused_or
from tests.support.requests import request

SECONDS = 20  # for the largest of these on a slow machine
N = 40
FRAME = pd.DataFrame({
    "x": np.arange(N) * 1.5,
    "word": ["red", "green"] * (N // 2),
    "day": pd.date_range("2026-01-01", periods=N),
    "flag": [True, False] * (N // 2),
    "y": np.arange(N) % 2,
})  # fmt: skip
CANARY = "k4n4ry"


@pytest.fixture
def data(workspace: Path) -> Path:
    (workspace / "data").mkdir()
    return workspace / "data"


def frozen(name: str) -> pa.Table | None:
    """The rows as a training would have them, in bounded time; None: they were refused in one line."""

    def freeze_them() -> pa.Table:
        with TemporaryDirectory() as folder:
            rows = freeze(sources.read(name), request(Task.CLASSIFICATION, relation_name=name), Path(folder))
            column_statistics(rows.path)
            return parquet.read_table(rows.path)

    return refused_or(lambda: with_timeout(SECONDS, "freeze", freeze_them))


def parts(name: str) -> int | None:
    """How many rows a scoring would see."""
    return refused_or(
        lambda: with_timeout(SECONDS, "parts", lambda: sum(part.num_rows for part in sources.parts(name, {})))
    )


class TestDamage:
    """Some bytes are others, or the end is gone, as after a bad disk or half a copy."""

    @pytest.mark.parametrize("compression", ["none", "snappy", "zstd"])
    def test_a_parquet_file(self, data: Path, compression: str) -> None:
        plain = compression == "none"
        parquet.write_table(
            pa.Table.from_pandas(FRAME), data / "t.parquet", compression=compression, use_dictionary=not plain
        )
        self.damaged(data / "t.parquet")

    def test_a_csv_file(self, data: Path) -> None:
        FRAME.to_csv(data / "t.csv", index=False)
        self.damaged(data / "t.csv")

    def damaged(self, path: Path) -> None:
        good, outcomes = path.read_bytes(), {"trained": 0, "refused": 0}
        byte = st.tuples(st.integers(0, len(good) - 1), st.sampled_from(b'\0"\n\r,\x80\xff') | st.integers(0, 255))

        @examples(120)
        @given(st.lists(byte, min_size=1, max_size=3), st.just(len(good)) | st.integers(0, len(good)))
        @example([(0, good[0])], len(good))
        def check(changes: list[tuple[int, int]], length: int) -> None:
            bad = bytearray(good)
            for place, value in changes:
                bad[place] = value
            path.write_bytes(bad[:length])
            rows = frozen(f"files:{path.name}")
            outcomes["refused" if rows is None else "trained"] += 1
            parts(f"files:{path.name}")

        check()
        assert min(outcomes.values()) > 0, outcomes


class TestParquetThatLies:
    @pytest.mark.parametrize(
        "said", [b"[]", b"{}", b'{"index_columns": null}', b'{"index_columns": 3}', b"\xff", b"[" * 100_000]
    )
    def test_what_stands_where_pandas_names_its_index(self, data: Path, said: bytes) -> None:
        table = pa.table({"x": FRAME.x, "y": FRAME.y}).replace_schema_metadata({b"pandas": said})
        parquet.write_table(table, data / "t.parquet")
        assert frozen("files:t.parquet").num_rows == parts("files:t.parquet") == N

    def test_text_that_is_no_text(self, data: Path) -> None:
        ends = pa.array(np.arange(N + 1, dtype=np.int32)).buffers()[1]
        text = pa.Array.from_buffers(pa.string(), N, [None, ends, pa.py_buffer(b"\xff" * N)])
        parquet.write_table(pa.table({"x": FRAME.x, "y": FRAME.y, "text": text}), data / "t.parquet")
        with pytest.raises(BadData, match="files:t.parquet cannot be read: .*[Uu][Tt][Ff]"):
            sources.read("files:t.parquet")
        with pytest.raises(BadData, match="files:t.parquet cannot be read: .*[Uu][Tt][Ff]"):
            list(sources.parts("files:t.parquet", {}))

    def test_a_small_file_of_more_rows_than_the_machine_has_memory_for(self, data: Path) -> None:
        """Its row group is listed again and again, as a bomb does it."""
        parquet.write_table(pa.table({"x": np.zeros(10**6), "y": np.zeros(10**6)}), data / "t.parquet")
        group = parquet.read_metadata(data / "t.parquet")
        bomb = parquet.read_metadata(data / "t.parquet")
        for _ in range(psutil.virtual_memory().total // (2 * 8 * 10**6) + 1):
            bomb.append_row_groups(group)
        bomb.write_metadata_file(data / "footer")
        rows = (data / "t.parquet").read_bytes()[: -group.serialized_size - 8]
        (data / "t.parquet").write_bytes(rows + (data / "footer").read_bytes()[4:])
        assert (data / "t.parquet").stat().st_size < 10**7
        before = psutil.Process().memory_info().rss
        with pytest.raises(BadData, match="need at least .* GB of memory, and this machine has"):
            with_timeout(SECONDS, "read", lambda: sources.read("files:t.parquet"))
        assert psutil.Process().memory_info().rss - before < 10**9


def test_a_line_of_commas_does_not_take_for_ever(data: Path) -> None:
    """Each of its columns has the same name."""
    (data / "t.csv").write_text("," * 50_000 + "\n" + "1," * 50_000 + "1\n")
    with pytest.raises(BadData, match="two columns named ''"):
        with_timeout(SECONDS, "freeze", lambda: freeze(sources.read("files:t.csv"), request(Task.CLASSIFICATION), data))
    with pytest.raises(BadData, match="two columns named ''"):
        with_timeout(
            SECONDS,
            "predict",
            lambda: refuse_duplicate_columns(csv.read_csv(data / "t.csv").column_names, "files:t.csv"),
        )


class TestWhatIsNoFile:
    """Whoever opens a FIFO waits for ever, and a device never ends."""

    MADE: dict[str, Callable[[Path], Any]] = {
        "a FIFO": os.mkfifo,
        "a link to a FIFO": lambda path: (os.mkfifo(path.with_name("fifo")), path.symlink_to("fifo")),
        "a link to a device": lambda path: path.symlink_to("/dev/zero"),
        "a socket": lambda path: os.mknod(path, 0o600 | stat.S_IFSOCK),
        "a folder": Path.mkdir,
        "a link to itself": lambda path: path.symlink_to(path.name),
    }

    @pytest.mark.parametrize("what", MADE)
    @pytest.mark.parametrize("suffix", [".csv", ".parquet"])
    def test_it_is_not_opened(self, data: Path, what: str, suffix: str) -> None:
        self.MADE[what](data / f"t{suffix}")
        with pytest.raises(UnknownRelation, match="there is no CSV|outside DATA_ROOT|cannot be the name"):
            with_timeout(SECONDS, "read", lambda: sources.read(f"files:t{suffix}"))

    @pytest.mark.skipif(os.geteuid() != 0, reason="root alone makes devices")
    def test_a_device_is_not_opened(self, data: Path) -> None:
        try:
            os.mknod(data / "t.csv", 0o600 | stat.S_IFCHR, os.makedev(1, 5))
        except PermissionError:
            pytest.skip("this container's root makes no devices")
        with pytest.raises(UnknownRelation, match="there is no CSV"):
            with_timeout(SECONDS, "read", lambda: sources.read("files:t.csv"))


class TestNames:
    PIECES = ["..", ".", "/", "out", "in", "link", "secret.csv", "secret.parquet", "t.csv", "%2e%2e", "~", "\n", "\\"]

    @pytest.fixture
    def canary(self, data: Path) -> Path:
        """A file beside DATA_ROOT, and ways to it from within."""
        secret = data.parent / "secret.csv"
        secret.write_text("x,y\n" + f"{CANARY},1\n" * N)
        pd.read_csv(secret).to_parquet(secret.with_suffix(".parquet"))
        (data / "in").mkdir()
        (data / "in" / "t.csv").write_text("x,y\n" + "1,0\n2,1\n" * N)
        (data / "link").symlink_to(data.parent)
        (data / "in" / "secret.csv").symlink_to("../../secret.csv")
        return secret

    @pytest.mark.filterwarnings("error")
    def test_none_reads_a_file_outside_of_the_data_root_or_changes_one(self, canary: Path) -> None:
        outside = [canary, canary.with_suffix(".parquet")]
        before = [(path.read_bytes(), path.stat().st_mtime_ns) for path in outside]
        seen = set()

        @examples(300)
        @given(st.lists(st.sampled_from(self.PIECES) | TEXT, max_size=6).map("/".join) | TEXT)
        @example("in/t.csv")
        @example(str(canary))
        @example("link/secret.csv")
        @example("in/secret.csv")
        @example("in/../../secret.parquet")
        def check(name: str) -> None:
            table = refused_or(lambda: sources.read(f"files:{name}"))
            if table is not None:
                seen.add(str(table.to_pydict()))
            refused_or(lambda: writer(f"files:{name}", "replace", "key"))

        check()
        assert seen, "nothing was read at all"
        assert CANARY not in "".join(seen)
        assert [(path.read_bytes(), path.stat().st_mtime_ns) for path in outside] == before

    def test_the_end_of_a_line_in_a_name_does_not_end_the_error(self, data: Path) -> None:
        (data / "a\nb.csv").write_text("x\n1\n")
        for name in ("no\nsuch.csv", "../a\nb.csv", "\x1b[2J.csv"):
            with pytest.raises(InvalidInput) as caught:
                sources.read(f"files:{name}")
            assert str(caught.value).isprintable()
