"""Devices by name."""

import pytest
import torch

from base.errors import InputError
from tasks.compute import choose_compute, processors


@pytest.mark.parametrize(
    ("device", "threads", "devices", "num_threads", "at_once"),
    [
        ("cpu", None, ("cpu",), processors(), 1),
        ("cpu", 1, ("cpu",), 1, processors()),
        ("cpu", 1000, ("cpu",), processors(), 1),
        ("cpu, cpu", 1, ("cpu", "cpu"), 1, processors()),
    ],
)
def test_networks_share_a_cpu_as_their_threads_allow(device, threads, devices, num_threads, at_once):
    compute = choose_compute(device, threads)
    assert (compute.devices, compute.num_threads, compute.at_once) == (devices, num_threads, at_once)


def test_auto_is_a_gpu_where_there_is_one():
    assert choose_compute("auto", 1).kinds == (["cuda"] if torch.cuda.device_count() else ["cpu"])


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("gpu", "unknown device 'gpu'; expected auto, cpu, cuda"),
        ("cpu:1", "unknown device 'cpu:1'"),
        ("cuda:99", "no device 'cuda:99': this machine has .* GPUs that torch can use"),
        ("cpu,none", "unknown device 'none'"),
    ],
)
def test_a_device_that_is_not_there_is_refused(device, message):
    with pytest.raises(InputError, match=message):
        choose_compute(device, None)


@pytest.mark.parametrize(
    ("device", "layout", "expected"),
    [
        ("cpu", None, "towers"),
        ("cpu,cpu", None, "towers"),
        ("cpu,cpu,cpu", None, "replicas"),
        ("cpu", "one-piece", "one-piece"),
        ("cpu,cpu", "replicas", "replicas"),
    ],
)
def test_devices_have_a_usual_layout_and_may_have_others(device, layout, expected):
    compute = choose_compute(device, 1, layout)
    assert compute.layout == expected
    assert compute.gpus == []
    if expected == "replicas":
        assert compute.at_once == 1
        assert compute.num_threads == max(1, processors() // len(compute.devices))


@pytest.mark.parametrize(
    ("device", "layout", "message"),
    [
        ("cpu,cpu,cpu", "towers", "3 devices .*; the network has two towers: give one or two, or replicas"),
        ("cpu,cpu", "one-piece", "2 devices .*; a network in one piece needs one: give one, or another layout"),
    ],
)
def test_a_layout_that_does_not_fit_the_devices_is_refused(device, layout, message):
    with pytest.raises(InputError, match=message):
        choose_compute(device, None, layout)


def test_several_machines_train_replicas():
    compute = choose_compute("cpu", None, num_machines=2, endpoint="10.0.0.1:29500")
    assert (compute.layout, compute.num_machines, compute.endpoint) == ("replicas", 2, "10.0.0.1:29500")
    assert compute.num_threads == processors()


@pytest.mark.parametrize(
    ("layout", "number", "endpoint", "message"),
    [
        (None, 2, None, "2 machines and the endpoint None; give both or neither: --machines 2 --endpoint HOST:29500"),
        (None, 1, "a:1", "1 machines and the endpoint a:1; give both or neither"),
        (None, 2, "a", "the endpoint a has no port; expected HOST:PORT, such as a:29500"),
        ("towers", 2, "a:1", "2 machines with the layout towers; only replicas train on several"),
    ],
)
def test_machines_that_cannot_meet_are_refused(layout, number, endpoint, message):
    with pytest.raises(InputError, match=f"^{message}"):
        choose_compute("cpu", None, layout, number, endpoint)


def test_a_process_of_a_cluster_has_one_device_and_the_threads_of_its_worker():
    compute = choose_compute("cpu,cpu", None)
    assert compute.shared("tcp://a:8786") == {"device": "cpu", "devices": ("cpu",), "num_threads": None}
    assert compute.shared(None) == {"device": "cpu", "devices": ("cpu", "cpu"), "num_threads": max(1, processors() // 2)}
