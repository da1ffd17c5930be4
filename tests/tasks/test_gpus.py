"""GPU slots on a real server; no GPU is touched."""

import threading
import time

import pytest
from prefect import flow, task
from prefect.client.orchestration import get_client

from tasks.gpus import held, limit_name


@task
def use(name, gpus, seconds, log):
    with held(gpus):
        log.append((name, "in"))
        time.sleep(seconds)
        log.append((name, "out"))


@flow
def two_runs(first, second, log):
    futures = []
    for name, gpus in (("first", first), ("second", second)):
        futures.append(use.submit(name, gpus, 1.0, log))
        while (name == "first") and not log:
            time.sleep(0.01)
    for future in futures:
        future.result()


@pytest.mark.usefixtures("prefect_server")
@pytest.mark.parametrize(("first", "second", "apart"), [([0], [0], True), ([0, 1], [1], True), ([0], [1], False)])
def test_two_runs_never_share_a_gpu_and_others_do_not_wait(first, second, apart):
    log = []
    two_runs(first, second, log)
    order = [("first", "in"), ("first", "out"), ("second", "in"), ("second", "out")]
    assert (log == order) == apart, log
    with get_client(sync_client=True) as client:
        limit = client.read_global_concurrency_limit_by_name(limit_name(second[0]))
    assert (limit.limit, limit.active_slots) == (1, 0)


def test_outside_of_a_run_nothing_is_held():
    with held([0]):
        assert threading.active_count() >= 1


def test_a_limit_is_named_after_the_gpu_and_not_after_its_number_here(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert limit_name(1).endswith("-1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4, 7")
    assert limit_name(1).endswith("-7")
