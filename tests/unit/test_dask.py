"""What is said of a Dask cluster that candidates cannot be trained on, and a candidate's share of a worker."""

import pickle
import socket
import sys
from threading import Thread
from types import SimpleNamespace

import distributed
import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings
from threadpoolctl import threadpool_limits

from registry import settings
from registry.errors import ClusterUnavailable, InvalidInput, MissingExtra
from registry.vocabulary import Task
from tasks.training import dask
from tasks.training.dask import check_cluster, dask_slot
from tasks.values import MlflowRun, Training
from tests.support.limits import threads
from tests.support.requests import request


@pytest.fixture
def with_prefect(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(dask, "CONNECT_SECONDS", 0.5)
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:1/api"}):
        yield


@pytest.mark.parametrize(
    ("given", "scheduler"),
    [(None, None), ("", None), ("dask:tcp://h:8786", "tcp://h:8786"), ("dask:tls://[::1]:1", "tls://[::1]:1")],
)
def test_the_setting(monkeypatch: pytest.MonkeyPatch, given: str | None, scheduler: str | None) -> None:
    if given is not None:
        monkeypatch.setenv("CANDIDATES_ON", given)
    assert settings.candidates_on() == scheduler


@pytest.mark.parametrize(
    "given", ["dask", "tcp://h:8786", "dask:h:8786", "dask:tcp://h", "ray:tcp://h:1", "dask:tcp://h:1 "]
)
def test_what_is_no_cluster_is_refused(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv("CANDIDATES_ON", given)
    with pytest.raises(InvalidInput, match=f"as dask:tcp://10.0.0.5:8786, not '{given}'"):
        check_cluster()


def test_it_needs_a_prefect_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANDIDATES_ON", "dask:tcp://127.0.0.1:1")
    with (
        temporary_settings(restore_defaults={PREFECT_API_URL}),
        pytest.raises(InvalidInput, match="set PREFECT_API_URL"),
    ):
        check_cluster()


def test_dask_is_an_extra(monkeypatch: pytest.MonkeyPatch, with_prefect: None) -> None:
    monkeypatch.setenv("CANDIDATES_ON", "dask:tcp://127.0.0.1:1")
    monkeypatch.setitem(sys.modules, "prefect_dask.client", None)
    with pytest.raises(MissingExtra, match=r"CANDIDATES_ON needs .* pip install 'frontrunner\[dask\]'"):
        check_cluster()


@pytest.mark.parametrize(
    ("scheme", "said"), [("tcp", "Timed out|does not answer as one"), ("tls", "perhaps check your TLS configuration")]
)
def test_what_listens_but_is_no_scheduler(
    monkeypatch: pytest.MonkeyPatch, with_prefect: None, scheme: str, said: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("CANDIDATES_ON", f"dask:{scheme}://127.0.0.1:{server.getsockname()[1]}")
        with pytest.raises(ClusterUnavailable, match=f"cannot be used: .*({said}).*; start it, or unset") as caught:
            check_cluster()
    assert "\n" not in str(caught.value)


class TestASlot:
    @pytest.fixture
    def worker(self, monkeypatch: pytest.MonkeyPatch):
        """One of eight cores and three slots."""
        monkeypatch.setattr(dask, "_check_stores", lambda *_: None)
        monkeypatch.setattr(dask, "cpu_count", lambda: 8)
        monkeypatch.setattr(distributed, "get_worker", lambda: SimpleNamespace(state=SimpleNamespace(nthreads=3)))
        with threadpool_limits(3):  # and what it was before comes back
            yield

    def training(self, *, one_by_one: bool) -> Training:
        return Training(request(Task.REGRESSION), "key", 1, MlflowRun("", "", "", {}), one_by_one)

    def test_slots_times_threads_make_the_workers_cores(self, worker: None) -> None:
        with (
            dask_slot(self.training(one_by_one=False), "linear") as one,
            dask_slot(self.training(one_by_one=False), "svm") as two,
        ):
            assert one == two == 2
            assert threads("blas") == {2}

    def test_of_a_large_snapshot_one_candidate_has_them_all(self, worker: None) -> None:
        entered = []

        def enter() -> None:
            with dask_slot(self.training(one_by_one=True), "svm") as threads:
                entered.append(threads)

        other = Thread(target=enter)
        with dask_slot(self.training(one_by_one=True), "linear") as all_of_them:
            other.start()
            other.join(0.2)
            assert all_of_them == 8
            assert entered == []
        other.join(5)
        assert entered == [8]


def test_what_a_candidate_is_sent_is_small() -> None:
    sent = Training(request(Task.REGRESSION), "key", 1, MlflowRun("", "", "", {}), one_by_one=False)
    assert pickle.loads(pickle.dumps(sent)) == sent
    assert len(pickle.dumps(sent)) < 2_000
