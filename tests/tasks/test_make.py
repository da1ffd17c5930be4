"""The one way in which artefacts are found and made, with real workers on a small archive."""

import json
import logging
import shutil
from pathlib import Path

import pytest

from base.errors import InputError
from data_shards.datasets.finding import identity
from tasks.artifacts import begin, key_of, read_manifest
from tasks.job import COUNTS, External
from tasks.jobs.checksum import ChecksumJob
from tasks.jobs.members import MEMBERS, MembersJob
from tasks.launch import WorkerError, launch
from tasks.make import make, partial_of, place
from tasks.workspace import Workspace


@pytest.fixture
def archive(tar, picture, tmp_path):
    path = tmp_path / "n01440764.tar"
    path.write_bytes(tar((f"n01440764_{n}.JPEG", picture(n)) for n in range(3)))
    return path


@pytest.fixture
def workspace(tmp_path):
    return Workspace(path=tmp_path / "workspace")


@pytest.fixture
def said(caplog):
    logger = logging.getLogger("prefect.tasks")
    logger.addHandler(caplog.handler)
    caplog.set_level(logging.INFO)
    yield lambda: [record.getMessage() for record in {id(record): record for record in caplog.records}.values()]
    logger.removeHandler(caplog.handler)


def members_job(archive):
    return MembersJob(archive=External(values=identity(archive)), root=archive)


def with_other_code(path, commit="0123456789ab"):
    """Make an artefact look as if other code had made it: another key, hence another folder."""
    manifest = json.loads((path / "manifest.json").read_text())
    manifest |= {"code": "other", "code_version": commit}
    (path / "manifest.json").write_text(json.dumps(manifest))
    return path.rename(path.with_name("0" * 12))


class Together(MembersJob):
    """Jobs that one process takes one after another."""

    together = True


def test_jobs_that_share_a_process_take_as_many_as_may_run(tar, picture, tmp_path, workspace):
    archives = [tmp_path / f"n0000000{number}.tar" for number in range(5)]
    for number, path in enumerate(archives):
        path.write_bytes(tar((f"{path.stem}_{n}.JPEG", picture(n)) for n in range(number + 1)))
    jobs, sizes = [Together(**dict(members_job(path))) for path in archives], []

    def run(units, at_once, heard, done):
        sizes.extend(len(unit.arguments) - 1 for unit in units)
        launch(units, at_once, heard, done)

    made = make(jobs, workspace, at_once=2, run=run)
    assert sizes == [3, 2]
    assert [artifact.counts["images"] for artifact in made] == [1, 2, 3, 4, 5]


def test_what_is_missing_is_made_and_what_exists_is_found(archive, workspace, said):
    job = members_job(archive)
    made = make([job], workspace)[0]
    assert made.path == workspace.path / "members" / "n01440764.tar" / key_of(job).digest[:12] == place(job, workspace)
    assert made.counts == {"images": 3}
    assert sorted(path.name for path in made.path.iterdir()) == ["counts.json", "job.json", "manifest.json", MEMBERS]
    before = made.path.stat().st_mtime_ns
    assert make([job], workspace) == [made]
    assert made.path.stat().st_mtime_ns == before
    assert said()[-1] == f"members of n01440764.tar: found {made.path}"


def test_the_manifest_names_inputs_settings_code_and_commit(archive, workspace):
    job = ChecksumJob(archive=External(values=identity(archive)), path=archive, md5="0" * 32)
    with pytest.raises(InputError, match=r"n01440764.tar has the MD5 \w{32}, expected 0{32}; download it again$"):
        make([job], workspace)
    assert not place(job, workspace).exists()
    manifest = read_manifest(make([members_job(archive)], workspace)[0].path)
    assert (manifest.inputs, manifest.settings) == ({"archive": identity(archive)}, {})
    assert manifest.code == key_of(members_job(archive)).code
    assert manifest.code_version


def test_the_same_job_twice_is_made_once(archive, workspace, said):
    first, second = make([members_job(archive), members_job(archive)], workspace)
    assert first == second
    assert sum("3 images" in line for line in said()) == 1


def test_an_artefact_that_differs_in_code_only_is_named_and_made_again(archive, workspace, said):
    job = members_job(archive)
    old = with_other_code(make([job], workspace)[0].path)
    again = make([job], workspace)[0]
    assert again.path != old
    note = f"{old} differs in code only (commit 0123456789ab); making it again, --reuse takes it"
    assert f"members of n01440764.tar: {note}" in said()


def test_reuse_takes_an_artefact_that_differs_in_code_only(archive, workspace, said):
    job = members_job(archive)
    old = with_other_code(make([job], workspace)[0].path)
    assert make([job], workspace.model_copy(update={"reuse": True}))[0].path == old
    assert said()[-1] == f"members of n01440764.tar: reusing {old}, made by the code of commit 0123456789ab"


def test_an_artefact_of_an_older_version_is_taken_by_reuse(archive, workspace):
    job = members_job(archive)
    old = with_other_code(make([job], workspace)[0].path)
    values = json.loads((old / "manifest.json").read_text())
    recipe = {"inputs": values.pop("inputs"), "config": values.pop("settings"), "code": values.pop("code")}
    del values["libraries"]
    (old / "manifest.json").write_text(json.dumps({"recipe": recipe} | values))
    assert make([job], workspace.model_copy(update={"reuse": True}))[0].path == old


def test_other_settings_are_never_reused(archive, workspace):
    job = ChecksumJob(archive=External(values=identity(archive)), path=archive, md5="0" * 32)
    path = place(job, workspace)
    begin(path)
    shutil.rmtree(path.with_name(f"{path.name}.partial"))
    other = job.model_copy(update={"md5": "1" * 32})
    assert place(other, workspace.model_copy(update={"reuse": True})) != path


def test_versions_of_libraries_are_recorded_and_compared(archive, workspace, said, monkeypatch):
    monkeypatch.setattr(MembersJob, "libraries", ("numpy", "pyarrow"))
    made = make([members_job(archive)], workspace)[0]
    manifest = json.loads((made.path / "manifest.json").read_text())
    assert set(manifest["libraries"]) == {"numpy", "pyarrow"}
    here = manifest["libraries"]["numpy"]
    manifest["libraries"]["numpy"] = "1.0"
    (made.path / "manifest.json").write_text(json.dumps(manifest))
    assert make([members_job(archive)], workspace) == [made]
    assert said()[-1] == (f"members of n01440764.tar: made with numpy 1.0 (here {here}); made here, its last bits could differ")


def test_a_job_that_was_killed_after_its_counts_is_only_published(archive, workspace, monkeypatch):
    monkeypatch.setattr(MembersJob, "resumable", True)
    job = members_job(archive)

    def killed(units, at_once, heard, done):
        launch(units, at_once, heard, lambda unit: None)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make([job], workspace, run=killed)
    counts = partial_of(job, workspace) / COUNTS
    before = counts.stat().st_mtime_ns
    made = make([job], workspace)[0]
    assert (made.path / COUNTS).stat().st_mtime_ns == before


def test_a_bug_in_a_worker_keeps_its_traceback(archive, workspace, monkeypatch):
    """An archive that vanishes while it is read is no sentence of ours: the operating system's error is a bug to us."""
    job = members_job(archive)

    def unlinked(units, at_once, heard, done):
        archive.unlink()
        launch(units, at_once, heard, done)

    with pytest.raises((WorkerError, InputError)) as caught:
        make([job], workspace, run=unlinked)
    assert not place(job, workspace).exists()
    if isinstance(caught.value, WorkerError):
        assert "Traceback" in str(caught.value)


def test_something_is_added_to_a_folder_before_it_is_published(archive, workspace):
    def finish(job: object, directory: Path) -> None:
        (directory / "curves.png").write_bytes(b"PNG")

    made = make([members_job(archive)], workspace, finish=finish)[0]
    assert "curves.png" in read_manifest(made.path).files
