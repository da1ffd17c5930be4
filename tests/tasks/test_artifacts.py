"""Artefacts: complete or not there, found again by their recipe, and never believed when they were changed."""

import json
import os
from pathlib import Path

import pytest
from pydantic import BaseModel

from data_shards.planning import ShardConfig
from tasks.artifacts import (
    Artifact,
    FileEntry,
    Recipe,
    begin,
    code_digest,
    find,
    location,
    publish,
    read_manifest,
    recipe,
    write_synced,
)

RECIPE = Recipe(inputs={"dataset": "abc"}, config={"side": 256, "seed": 0}, code="0123")


def made(path: Path, files: dict[str, str] | None = None, made_from: Recipe = RECIPE) -> Artifact:
    """Make an artefact of two files, or of these."""
    partial = begin(path)
    for name, text in (files or {"numbers.txt": "1 2 3\n", "deep/er.txt": "four\n"}).items():
        (partial / name).parent.mkdir(parents=True, exist_ok=True)
        (partial / name).write_text(text)
    return publish(path, made_from, {"images": 3})


def test_what_was_published_is_found(tmp_path: Path) -> None:
    artifact = made(tmp_path / "a")
    assert artifact == Artifact(path=tmp_path / "a", digest=artifact.digest, counts={"images": 3})
    assert find(tmp_path / "a") == find(tmp_path / "a", sizes_only=True) == artifact
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a"]
    assert str(artifact) == f"{tmp_path}/a  3 images"


def test_the_manifest_names_recipe_files_and_code(tmp_path: Path) -> None:
    made(tmp_path / "a")
    manifest = read_manifest(tmp_path / "a")
    assert manifest.recipe == RECIPE
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


def test_the_digest_of_the_content_does_not_hang_on_recipe_or_place(tmp_path: Path) -> None:
    other = RECIPE.model_copy(update={"code": "4567"})
    assert made(tmp_path / "a").digest == made(tmp_path / "elsewhere", made_from=other).digest


@pytest.mark.parametrize(
    "same",
    [
        Recipe(inputs={"dataset": "abc"}, config={"seed": 0, "side": 256}, code="0123"),
        RECIPE.model_copy(),
        Recipe.model_validate_json(RECIPE.model_dump_json()),
    ],
)
def test_equal_recipes_have_equal_digests_and_places(same: Recipe, tmp_path: Path) -> None:
    assert same.digest == RECIPE.digest
    assert location(tmp_path, same) == location(tmp_path, RECIPE) == tmp_path / RECIPE.digest[:12]


@pytest.mark.parametrize(
    "change",
    [
        {"inputs": {"dataset": "abd"}},
        {"inputs": {"dataset": "abc", "weights": "abc"}},
        {"inputs": {"data": "abc"}},
        {"config": {"side": 257, "seed": 0}},
        {"config": {"side": 256}},
        {"config": {"side": "256", "seed": 0}},
        {"code": "0124"},
    ],
)
def test_another_input_config_or_code_lies_elsewhere(change: dict[str, object], tmp_path: Path) -> None:
    assert location(tmp_path, RECIPE.model_copy(update=change)) != location(tmp_path, RECIPE)


def test_a_recipe_takes_a_config_as_its_values_and_code_as_its_bytes() -> None:
    config = ShardConfig(storage="square64")
    made_from = recipe({"dataset": "abc"}, config, "data_shards.images", "data_shards.writing")
    assert made_from.config == config.model_dump() == recipe({}, config.model_dump(), "data_shards.images").config
    assert made_from.code == code_digest("data_shards.images", "data_shards.writing")


class Folder(BaseModel):
    path: Path


def test_a_config_that_holds_a_path_has_a_digest() -> None:
    assert recipe({}, Folder(path=Path("/x")), "data_shards.images").config == {"path": "/x"}


def test_the_code_of_a_module_or_a_package_has_its_own_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.artifacts.ROOT", tmp_path)
    (tmp_path / "package" / "inner").mkdir(parents=True)
    sources = {"module.py": "a = 1", "package/one.py": "b = 2", "package/inner/two.py": "c = 3", "package/rows.csv": "1,2"}
    for name, text in sources.items():
        (tmp_path / name).write_text(text)
    packages = ("module", "package")
    before = code_digest.__wrapped__(*packages)
    for name, text in sources.items():
        (tmp_path / name).write_text(f"{text} ")
        assert code_digest.__wrapped__(*packages) != before, f"a change of {name} is not seen"
        (tmp_path / name).write_text(text)
    (tmp_path / "package" / "notes.txt").write_text("no code")
    assert code_digest.__wrapped__(*packages) == before


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
    with pytest.raises(ValueError, match=message):
        find(tmp_path / "a", sizes_only)


def test_a_changed_byte_is_found_unless_only_sizes_are_looked_at(tmp_path: Path) -> None:
    artifact = made(tmp_path / "a")
    flip(tmp_path / "a" / "numbers.txt")
    assert find(tmp_path / "a", sizes_only=True) == artifact
    with pytest.raises(ValueError, match="numbers.txt was changed after it was written; delete .*/a to make it again$"):
        find(tmp_path / "a")


@pytest.mark.parametrize("text", [None, "", "{", "[]", '{"recipe": 1}'])
def test_a_folder_without_a_manifest_is_not_believed(tmp_path: Path, text: str | None) -> None:
    made(tmp_path / "a")
    (tmp_path / "a" / "manifest.json").unlink()
    if text is not None:
        (tmp_path / "a" / "manifest.json").write_text(text)
    with pytest.raises(ValueError, match="/a has no readable manifest.json; it is not a finished artefact: delete it to make"):
        find(tmp_path / "a")


def test_a_step_that_was_killed_leaves_nothing_that_looks_finished(tmp_path: Path) -> None:
    partial = begin(tmp_path / "a")
    (partial / "numbers.txt").write_text("1 2")
    assert find(tmp_path / "a") is None
    with pytest.raises(ValueError, match="not a finished artefact"):
        find(partial)


def test_a_step_begun_again_finds_an_empty_folder(tmp_path: Path) -> None:
    (begin(tmp_path / "a") / "numbers.txt").write_text("1 2")
    assert not list(begin(tmp_path / "a").iterdir())
    made(tmp_path / "a")
    assert find(tmp_path / "a") is not None


def test_a_step_that_is_resumed_finds_what_it_left(tmp_path: Path) -> None:
    (begin(tmp_path / "a") / "checkpoint.pt").write_text("half way")
    assert (begin(tmp_path / "a", keep=True) / "checkpoint.pt").read_text() == "half way"
    publish(tmp_path / "a", RECIPE, {})
    assert list(read_manifest(tmp_path / "a").files) == ["checkpoint.pt"]


def test_a_run_that_was_killed_between_manifest_and_name_can_be_resumed(tmp_path: Path) -> None:
    artifact = made(tmp_path / "a")
    (tmp_path / "a").rename(tmp_path / "a.partial")
    begin(tmp_path / "a", keep=True)
    assert publish(tmp_path / "a", RECIPE, {"images": 3}) == artifact == find(tmp_path / "a")


def test_a_set_that_lost_what_was_written_is_not_published(tmp_path: Path) -> None:
    (begin(tmp_path / "a") / "numbers.txt").write_text("1 2 3\n")
    known = {name: FileEntry(size=6, sha256="0" * 64) for name in ("numbers.txt", "0.tar", "1.tar")}
    with pytest.raises(
        FileNotFoundError, match=r"a.partial lacks 2 files that were written, such as 0.tar; delete .*a.partial"
    ):
        publish(tmp_path / "a", RECIPE, {"images": 3}, known)
    assert not (tmp_path / "a").exists()


def test_nothing_is_published_over_a_finished_artefact(tmp_path: Path) -> None:
    artifact = made(tmp_path / "a")
    with pytest.raises(OSError, match="not empty"):
        made(tmp_path / "a", {"numbers.txt": "9"})
    assert find(tmp_path / "a") == artifact


def test_a_file_is_written_as_a_whole(tmp_path: Path) -> None:
    write_synced(tmp_path / "a.json", json.dumps({"word": "été"}, ensure_ascii=False))
    assert json.loads((tmp_path / "a.json").read_bytes()) == {"word": "été"}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
