"""GPU slots on a real server; no GPU is touched."""

import threading
import time

import pytest
from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client

from tasks.gpus import held, limit_name


@task(cache_policy=NO_CACHE)
def use(gpus, inside):
    with held(gpus):
        inside()


@flow
def two_runs(first, second, inside):
    for future in [use.submit(gpus, inside) for gpus in (first, second)]:
        future.result()


@pytest.mark.usefixtures("prefect_server")
@pytest.mark.parametrize(("first", "second"), [([0], [0]), ([0, 1], [1])])
def test_two_runs_never_share_a_gpu(first, second):
    alone = threading.Lock()

    def inside():
        assert alone.acquire(blocking=False), "both runs hold the GPU"
        time.sleep(1)  # long enough for the other to come in, were it let
        alone.release()

    two_runs(first, second, inside)
    with get_client(sync_client=True) as client:
        limit = client.read_global_concurrency_limit_by_name(limit_name(second[0]))
    assert (limit.limit, limit.active_slots) == (1, 0)


@pytest.mark.usefixtures("prefect_server")
def test_runs_on_different_gpus_do_not_wait_for_each_other():
    both = threading.Barrier(2, timeout=60)
    two_runs([0], [1], both.wait)
    assert not both.broken


def test_outside_of_a_run_nothing_is_held():
    with held([0]):
        assert threading.active_count() >= 1


def test_a_limit_is_named_after_the_gpu_and_not_after_its_number_here(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert limit_name(1).endswith("-1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4, 7")
    assert limit_name(1).endswith("-7")
