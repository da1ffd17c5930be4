"""One network trained on two machines: network namespaces, each with torchrun's agent and a replica, and one disk."""

import signal

import pytest

from tasks.workers.guard import EXIT_BAD_INPUT

pytestmark = pytest.mark.machines

CHANGES = {"training": {"epochs": 2, "batch_size": 17}, "layout": "replicas", "checkpoint_minutes": 0}
SECONDS_SILENT = 30
LOST = "another replica was lost: its process or its machine ended, or was silent for"


@pytest.fixture(scope="module")
def unbroken(job_file, worker, tmp_path_factory):
    """The folder of a run of two replicas on one machine."""
    job = job_file(tmp_path_factory.mktemp("runs") / "one", **CHANGES, devices=["cpu", "cpu"])
    process = worker(job)
    said = process.communicate(timeout=300)[0]
    assert process.returncode == 0, said
    return job.parent


def test_two_machines_end_with_the_bytes_of_one_even_if_one_dies_and_is_cut_off(
    unbroken, job_file, machines, messages, newest_checkpoint, wait_for, tmp_path
):
    endpoint = f"{machines.address('one')}:29500"
    job = job_file(
        tmp_path / "two",
        **CHANGES,
        devices=["cpu"],
        num_machines=2,
        endpoint=endpoint,
        silent_minutes=SECONDS_SILENT / 60,
    )
    folder = job.parent

    def begin():
        """Start both machines and wait until they have learnt something."""
        before = newest_checkpoint(folder)
        both = [
            machines.start(name, "-m", "tasks.workers.train", str(job), share)
            for name, share in (("one", "0/2"), ("two", "1/2"))
        ]
        while newest_checkpoint(folder) == before:
            assert [process.poll() for process in both] == [None, None], [process.communicate() for process in both]
        return both

    def end(process):
        said = process.communicate(timeout=300)[0]
        return process.returncode, [message.text for message in messages(said)]

    first, second = begin()
    second.send_signal(signal.SIGKILL)  # the kernel kills its replica with it
    code, texts = end(first)
    assert code == EXIT_BAD_INPUT, texts
    assert LOST in texts[-1]
    assert f"the last good checkpoint is {folder / 'work' / 'checkpoints' / newest_checkpoint(folder)}" in texts[-1]
    assert f"waiting at {endpoint} for 1 more machines; run on each: python -m tasks.workers.train {job} NUMBER/2" in texts
    second.communicate(timeout=10)

    both = begin()
    machines.unplug("two")
    for process in both:
        code, texts = end(process)
        assert code == EXIT_BAD_INPUT, texts
        assert LOST in texts[-1]
    machines.plug("two")

    for process in begin():
        code, texts = end(process)
        assert code == 0, texts
    for name in ("weights.safetensors", "counts.json"):
        assert (folder / name).read_bytes() == (unbroken / name).read_bytes()


def test_a_machine_with_another_number_of_machines_is_refused(job_file, worker, messages, tmp_path):
    job = job_file(tmp_path, layout="replicas", num_machines=2, endpoint="127.0.0.1:29500")
    process = worker(job, share="2/3")
    said = process.communicate(timeout=60)[0]
    assert process.returncode == EXIT_BAD_INPUT, said
    assert messages(said)[-1].text == "found 3 machines, the job has 2; expected a share such as 1/2"
