"""The stages of a sharding job, one after another in this process: what they say and count besides the images."""

import io
import json
from pathlib import Path

import pytest
from PIL import Image

from base.progress import Silent
from data_shards.datasets.folder import FolderSource
from tasks.job import JOB, WORK, External, Share
from tasks.jobs.shard import ShardJob
from tasks.workers import close, plan, shard


class Listening(Silent):
    """Keeps the sentences."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def say(self, text: str, error: bool = False) -> None:
        del error
        self.said.append(text)


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """Return two classes of two images."""
    picture = io.BytesIO()
    Image.new("RGB", (80, 72), (200, 40, 40)).save(picture, "JPEG")
    for name in ("train/cat/0.jpg", "train/cat/1.jpg", "train/dog/0.jpg", "train/dog/1.jpg"):
        (tmp_path / "pets" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "pets" / name).write_bytes(picture.getvalue())
    return tmp_path / "pets"


def run(root: Path, directory: Path) -> tuple[dict[str, int], list[str]]:
    """Return the counts of the set and everything that was said."""
    job = ShardJob(
        storage="square64",
        dataset=External(values={}),
        source=FolderSource(path=root),
        dataset_name="pets",
        split="train",
        unpack_dir=directory,
        bad_images="report",
    )
    (directory / WORK).mkdir(parents=True)
    (directory / JOB).write_text("{}")
    progress = Listening()
    plan.main(job, directory, progress, Share())
    shard.main(job, directory, progress, Share())
    return close.main(job, directory, progress, Share()), progress.said


def test_files_that_are_passed_over_are_said_and_counted(pets: Path, tmp_path: Path) -> None:
    (pets / "train" / "cat" / "2.heic").write_bytes(b"x")
    (pets / "train" / "dog" / "Thumbs.db").write_bytes(b"x")
    (pets / "train" / "dog" / "more").mkdir()
    (pets / "train" / "dog" / "1.jpg").rename(pets / "train" / "dog" / "more" / "1.jpg")
    counts, said = run(pets, tmp_path / "set")
    assert "passed over 1 .heic images that cannot be read (such as cat/2.heic), 1 system files (such as dog/Thumbs.db)" in said
    assert counts["images"] == 4
    assert counts["ignored .heic images that cannot be read"] == counts["ignored system files"] == 1


def test_nothing_more_is_said_of_a_source_that_holds_only_images(pets: Path, tmp_path: Path) -> None:
    counts, said = run(pets, tmp_path / "set")
    assert set(counts) == {"images", "classes", "shards", "mended", "turned", "bad_images"}
    assert said == ["planning the shards of pets train", "4 images of 2 classes into 1 shard"]


def test_a_class_left_without_images_is_said_and_counted_also_if_bad_images_are_reported(pets: Path, tmp_path: Path) -> None:
    for image in (pets / "train" / "dog").iterdir():
        image.write_bytes(b"not an image")
    counts, said = run(pets, tmp_path / "set")
    assert "classes without an image: 1, such as dog; bad_images.parquet lists what could not be read" in said
    assert (counts["images"], counts["bad_images"], counts["classes_without_images"]) == (2, 2, 1)
    assert json.loads((tmp_path / "set" / WORK / plan.PASSED_OVER).read_text()) == {}
