"""Artefacts: complete or not there, found again by their recipe, and never believed when they were changed."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from base.errors import InputError
from tasks.artifacts import FileEntry, begin, differing_in_code, find, publish, read_manifest
from tasks.job import WORK, Artifact, Key

KEY = Key(inputs={"dataset": "abc"}, settings={"side": 256, "seed": 0}, code="0123")


def made(path: Path, files: dict[str, str] | None = None, key: Key = KEY) -> Artifact:
    """Make an artefact of two files, or of these."""
    partial = begin(path)
    for name, text in (files or {"numbers.txt": "1 2 3\n", "deep/er.txt": "four\n"}).items():
        (partial / name).parent.mkdir(parents=True, exist_ok=True)
        (partial / name).write_text(text)
    return publish(path, key, {"images": 3})


def test_what_was_published_is_found(tmp_path: Path) -> None:
    artifact = made(tmp_path / "a")
    assert artifact == Artifact(path=tmp_path / "a", digest=artifact.digest, counts={"images": 3})
    assert find(tmp_path / "a") == find(tmp_path / "a", sizes_only=True) == artifact
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a"]
    assert str(artifact) == f"{tmp_path}/a  3 images"


def test_the_manifest_names_key_files_and_commit(tmp_path: Path) -> None:
    made(tmp_path / "a")
    manifest = read_manifest(tmp_path / "a")
    assert manifest.key == KEY
    assert {name: entry.size for name, entry in manifest.files.items()} == {"numbers.txt": 6, "deep/er.txt": 5}
    assert manifest.code_version
    assert manifest.created_at.tzinfo is not None


def test_nothing_is_found_where_nothing_was_made(tmp_path: Path) -> None:
    assert find(tmp_path / "a") is None


@pytest.mark.parametrize(
    "files",
    [
        {"numbers.txt": "1 2 4\n", "deep/er.txt": "four\n"},
        {"figures.txt": "1 2 3\n", "deep/er.txt": "four\n"},
        {"numbers.txt": "1 2 3\n"},
        {"numbers.txt": "1 2 3\n", "deep/er.txt": "four\n", "more.txt": ""},
        {"numbers.txt": "1 2 3\n", "deep/er.txt": "four\n", "deep/job.json": "{}"},
    ],
)
def test_other_content_has_another_digest(tmp_path: Path, files: dict[str, str]) -> None:
    assert made(tmp_path / "a").digest != made(tmp_path / "b", files).digest


@pytest.mark.parametrize("name", ["job.json", "counts.json", "metrics.parquet", "curves.png", "events/of.today"])
def test_files_that_tell_how_it_was_made_do_not_change_the_digest(tmp_path: Path, name: str) -> None:
    plain = made(tmp_path / "a", {"numbers.txt": "1"})
    told = made(tmp_path / "b", {"numbers.txt": "1", name: "yesterday"})
    assert plain.digest == told.digest
    assert name in read_manifest(told.path).files


def test_the_digest_of_the_content_depends_on_neither_key_nor_place(tmp_path: Path) -> None:
    other = KEY._replace(code="4567")
    assert made(tmp_path / "a").digest == made(tmp_path / "elsewhere", key=other).digest


@pytest.mark.parametrize("same", [Key({"dataset": "abc"}, {"seed": 0, "side": 256}, "0123"), Key(**KEY._asdict())])
def test_equal_keys_have_equal_digests(same: Key) -> None:
    assert same.digest == KEY.digest


@pytest.mark.parametrize(
    "change",
    [
        {"inputs": {"dataset": "abd"}},
        {"inputs": {"dataset": "abc", "weights": "abc"}},
        {"inputs": {"data": "abc"}},
        {"settings": {"side": 257, "seed": 0}},
        {"settings": {"side": 256}},
        {"settings": {"side": "256", "seed": 0}},
        {"code": "0124"},
    ],
)
def test_another_input_setting_or_code_has_another_digest(change: dict[str, Any]) -> None:
    assert KEY._replace(**change).digest != KEY.digest


def test_artefacts_that_differ_in_code_only_are_found_newest_first(tmp_path: Path) -> None:
    for name, key in {
        "old": KEY._replace(code="4567"),
        "new": KEY._replace(code="89ab"),
        "same": KEY,
        "setting": KEY._replace(code="4567", settings={"side": 64}),
        "input": KEY._replace(code="4567", inputs={}),
    }.items():
        made(tmp_path / name, key=key)
    begin(tmp_path / "killed")
    assert differing_in_code(tmp_path, KEY) == [tmp_path / "new", tmp_path / "old"]


def test_a_manifest_of_an_older_version_is_read(tmp_path: Path) -> None:
    made(tmp_path / "a")
    values = json.loads((tmp_path / "a" / "manifest.json").read_text())
    recipe = {"inputs": values.pop("inputs"), "config": values.pop("settings"), "code": values.pop("code")}
    del values["libraries"]
    (tmp_path / "a" / "manifest.json").write_text(json.dumps({"recipe": recipe, **values}))
    assert read_manifest(tmp_path / "a").key == KEY
    assert find(tmp_path / "a") is not None


def cut(path: Path) -> None:
    os.truncate(path, 3)


def grow(path: Path) -> None:
    path.write_text(path.read_text() + "more")


def remove(path: Path) -> None:
    path.unlink()


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def flip(path: Path) -> None:
    path.write_text("1 2 9\n")


@pytest.mark.parametrize("sizes_only", [False, True])
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (cut, "numbers.txt holds 3 bytes, its manifest says 6 bytes; delete .*/a to make it again$"),
        (grow, "numbers.txt holds 10 bytes, its manifest says 6 bytes"),
        (remove, "numbers.txt is missing, its manifest says 6 bytes; delete .*/a to make it again$"),
        (replace_by_folder, "numbers.txt is missing"),
    ],
)
def test_a_file_that_lost_or_won_bytes_is_named(tmp_path: Path, spoil: object, message: str, sizes_only: bool) -> None:
    made(tmp_path / "a")
    assert callable(spoil)
    spoil(tmp_path / "a" / "numbers.txt")
    with pytest.raises(InputError, match=message):
        find(tmp_path / "a", sizes_only)


def test_a_changed_byte_is_found_unless_only_sizes_are_looked_at(tmp_path: Path) -> None:
    artifact = made(tmp_path / "a")
    flip(tmp_path / "a" / "numbers.txt")
    assert find(tmp_path / "a", sizes_only=True) == artifact
    with pytest.raises(InputError, match="numbers.txt was changed after it was written; delete .*/a to make it again$"):
        find(tmp_path / "a")


@pytest.mark.parametrize("text", [None, "", "{", "[]", '{"recipe": 1}'])
def test_a_folder_without_a_manifest_is_not_believed(tmp_path: Path, text: str | None) -> None:
    made(tmp_path / "a")
    (tmp_path / "a" / "manifest.json").unlink()
    if text is not None:
        (tmp_path / "a" / "manifest.json").write_text(text)
    with pytest.raises(
        InputError, match="/a has no readable manifest.json, so it is not a finished artefact; delete it to make"
    ):
        find(tmp_path / "a")


def test_a_step_that_was_killed_leaves_nothing_that_looks_finished(tmp_path: Path) -> None:
    partial = begin(tmp_path / "a")
    (partial / "numbers.txt").write_text("1 2")
    assert find(tmp_path / "a") is None
    with pytest.raises(InputError, match="not a finished artefact"):
        find(partial)


def test_a_step_begun_again_finds_an_empty_folder(tmp_path: Path) -> None:
    (begin(tmp_path / "a") / "numbers.txt").write_text("1 2")
    assert [path.name for path in begin(tmp_path / "a").iterdir()] == [WORK]
    made(tmp_path / "a")
    assert find(tmp_path / "a") is not None


def test_a_step_that_is_resumed_finds_what_it_left(tmp_path: Path) -> None:
    (begin(tmp_path / "a") / "checkpoint.pt").write_text("half way")
    assert (begin(tmp_path / "a", keep=True) / "checkpoint.pt").read_text() == "half way"
    publish(tmp_path / "a", KEY, {})
    assert list(read_manifest(tmp_path / "a").files) == ["checkpoint.pt"]


def test_a_run_that_was_killed_between_manifest_and_name_can_be_resumed(tmp_path: Path) -> None:
    artifact = made(tmp_path / "a")
    (tmp_path / "a").rename(tmp_path / "a.partial")
    begin(tmp_path / "a", keep=True)
    assert publish(tmp_path / "a", KEY, {"images": 3}) == artifact == find(tmp_path / "a")


def test_a_set_that_lost_what_was_written_is_not_published(tmp_path: Path) -> None:
    (begin(tmp_path / "a") / "numbers.txt").write_text("1 2 3\n")
    known = {name: FileEntry(size=6, sha256="0" * 64) for name in ("numbers.txt", "0.tar", "1.tar")}
    with pytest.raises(InputError, match=r"a.partial lacks 2 files that were written, such as 0.tar; delete .*a.partial"):
        publish(tmp_path / "a", KEY, {"images": 3}, known)
    assert not (tmp_path / "a").exists()


def test_nothing_is_published_over_a_finished_artefact(tmp_path: Path) -> None:
    artifact = made(tmp_path / "a")
    with pytest.raises(OSError, match="not empty"):
        made(tmp_path / "a", {"numbers.txt": "9"})
    assert find(tmp_path / "a") == artifact


def test_scratch_space_is_deleted_and_not_part_of_the_artefact(tmp_path: Path) -> None:
    (begin(tmp_path / "a") / WORK / "checkpoint.pt").write_text("half way")
    (begin(tmp_path / "a", keep=True) / "weights").write_text("1")
    publish(tmp_path / "a", KEY, {})
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["manifest.json", "weights"]


def test_what_a_killed_worker_left_of_a_file_is_not_published(tmp_path: Path) -> None:
    directory = begin(tmp_path / "a")
    (directory / "numbers.txt").write_text("1 2")
    (directory / "numbers.txt.0123abcd.partial").write_text("1")
    publish(tmp_path / "a", KEY, {})
    assert {path.name for path in (tmp_path / "a").iterdir()} == {"numbers.txt", "manifest.json"}
