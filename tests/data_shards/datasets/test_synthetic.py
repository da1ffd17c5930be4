"""The drawn dataset: the same images from the same seed, and no image twice."""

import pickle
from concurrent.futures import ProcessPoolExecutor
from hashlib import sha256
from multiprocessing import get_context
from pathlib import Path

import pytest
import simplejpeg

from base.errors import InputError
from data_shards.datasets.dataset import Sample, Split, as_rows
from data_shards.datasets.synthetic import CLASSES, HUES, PATTERNS, SHAPES, Synthetic, SyntheticSource

TARGET = Synthetic(train_per_class=2, val_per_class=1)
SUPERSET = Synthetic(train_per_class=2, val_per_class=1, num_classes=40)


def drawn(dataset: Synthetic, samples: list[Sample]) -> dict[str, str]:
    """Return the SHA-256 of each image by its name."""
    return {sample.name: sha256(dataset.read(sample)).hexdigest() for sample in samples}


def everything(dataset: Synthetic) -> list[str]:
    splits: tuple[Split, ...] = ("train", "val")
    return [digest for split in splits for digest in drawn(dataset, as_rows(dataset.samples(split))).values()]


def test_the_same_sample_is_drawn_with_the_same_bytes() -> None:
    sample = as_rows(TARGET.samples("train"))[5]
    assert TARGET.read(sample) == TARGET.read(sample)


def test_the_order_of_reading_does_not_change_an_image() -> None:
    samples = as_rows(TARGET.samples("train"))
    assert drawn(TARGET, samples) == drawn(TARGET, samples[::-1])


def test_another_process_draws_the_same_images() -> None:
    samples = as_rows(TARGET.samples("val"))
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        assert pool.submit(drawn, TARGET, samples).result() == drawn(TARGET, samples)


def test_a_pickled_copy_is_equal() -> None:
    assert pickle.loads(pickle.dumps(SUPERSET)) == SUPERSET


def test_no_image_is_drawn_twice_in_either_set_or_split() -> None:
    digests = everything(TARGET) + everything(SUPERSET)
    assert len(set(digests)) == len(digests) == 3 * 20 + 3 * 40


@pytest.mark.parametrize(
    "other",
    [
        Synthetic(train_per_class=2, val_per_class=1, seed=1),
        Synthetic(train_per_class=2, val_per_class=1, side=96),
    ],
)
def test_another_seed_or_side_draws_other_images_and_is_another_input(other: Synthetic) -> None:
    assert not set(everything(TARGET)) & set(everything(other))
    assert other.identity("val") != TARGET.identity("val")


def test_more_images_a_class_do_not_change_the_first_ones() -> None:
    more = Synthetic(train_per_class=3, val_per_class=1)
    fewer, all_of_them = (drawn(dataset, as_rows(dataset.samples("train"))) for dataset in (TARGET, more))
    assert fewer.items() <= all_of_them.items()


def test_an_image_has_the_requested_side() -> None:
    for side in (64, 128):
        dataset = Synthetic(train_per_class=1, val_per_class=1, side=side)
        image = simplejpeg.decode_jpeg(dataset.read(as_rows(dataset.samples("train"))[0]))
        assert image.shape == (side, side, 3)


def test_every_adjective_and_noun_can_be_drawn() -> None:
    adjectives = {adjective for row in CLASSES.values() for adjective in row}
    assert set(CLASSES) == set(SHAPES)
    assert adjectives == set(PATTERNS) | set(HUES)


@pytest.mark.parametrize(("dataset", "num_classes"), [(TARGET, 20), (SUPERSET, 40)])
def test_classes_are_unique_and_in_wnid_order(dataset: Synthetic, num_classes: int) -> None:
    classes = dataset.classes()
    wnids = [image_class.wnid for image_class in classes]
    assert len({image_class.words for image_class in classes}) == num_classes
    assert wnids == sorted(set(wnids))
    assert all(len(wnid) == 9 and wnid.startswith("n9") and wnid[1:].isdigit() for wnid in wnids)


def test_the_superset_holds_every_target_class_at_another_index() -> None:
    target, superset = TARGET.classes(), SUPERSET.classes()
    assert set(target) < set(superset)
    assert all(superset.index(image_class) != index for index, image_class in enumerate(target))


def test_every_adjective_and_every_noun_is_shared_by_target_classes() -> None:
    for position in (0, 1):
        words = [image_class.words.split()[position] for image_class in TARGET.classes()]
        assert all(words.count(word) > 1 for word in words)


def test_names_are_unique_and_are_not_paths() -> None:
    samples = [*as_rows(TARGET.samples("train")), *as_rows(TARGET.samples("val"))]
    assert samples[0] == Sample("n90000001", "n90000001_train_00000.JPEG", "n90000001_train_00000.JPEG")
    assert len({sample.name for sample in samples}) == len(samples) == 20 * (2 + 1)


def test_target_and_superset_have_different_names() -> None:
    assert (TARGET.name, SUPERSET.name) == ("synthetic", "synthetic-40")


def test_splits_and_sets_have_different_identities() -> None:
    identities = [TARGET.identity("train"), TARGET.identity("val"), SUPERSET.identity("train"), SUPERSET.identity("val")]
    assert all(a != b for i, a in enumerate(identities) for b in identities[:i])


@pytest.mark.parametrize("ask", [TARGET.samples, TARGET.identity])
def test_the_test_split_is_refused_and_val_is_suggested(ask: object) -> None:
    assert callable(ask)
    with pytest.raises(InputError, match="found split 'test' .* only train and val are drawn, so score on val"):
        ask("test")


def test_a_list_chooses_the_classes_and_leaves_their_images_alone(tmp_path: Path) -> None:
    (tmp_path / "wnids.txt").write_text("n90000003\nn90000007\n")
    whole = SyntheticSource(train_per_class=2).open(tmp_path)
    some = SyntheticSource(train_per_class=2, wnids=tmp_path / "wnids.txt").open(tmp_path)
    assert [wnid for wnid, _ in some.classes()] == ["n90000003", "n90000007"]
    samples = as_rows(some.samples("train"))
    assert samples == [sample for sample in as_rows(whole.samples("train")) if sample.wnid in ("n90000003", "n90000007")]
    assert some.read(samples[0]) == whole.read(samples[0])
    assert some.name.startswith("synthetic-2-")
    assert whole.name == "synthetic"
    assert "wnids" not in whole.identity("train")
    assert some.identity("train")["wnids"] == ["n90000003", "n90000007"]
