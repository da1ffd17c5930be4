"""Predictions of a small shard set to tables, costs, warnings and a submission that scores as the tables say."""

import logging
import shutil

import numpy as np
import pandas as pd
import pytest
import torch

from base.errors import InputError
from data_shards.datasets.synthetic import Synthetic
from data_shards.listing import write_lists
from data_shards.planning import ShardConfig, plan_shards
from data_shards.shard_set import ShardSet
from data_shards.writing import write_shard
from flows.other_sets import shard_others
from model.evaluation.predictions import write_part
from model.evaluation.submissions import parse_submission, score
from tasks.artifacts import publish
from tasks.job import Key, Weights
from tasks.jobs.submit import SUBMISSION
from tasks.submit import write_submission
from tasks.tabulate import OtherSet, RowPlan, search_member_weights, write_error_rates
from tasks.workspace import Workspace

pytestmark = pytest.mark.usefixtures("forked_workers")

IDS = [(7 * index) % 20 + 1 for index in range(20)]
"""ILSVRC IDs that are in another order than the class indices."""


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Sixty images whose classes have ILSVRC IDs and costs, as those of ILSVRC-2010."""
    directory, work = tmp_path_factory.mktemp("shards") / "synthetic" / "val" / "key", tmp_path_factory.mktemp("work")
    directory.mkdir(parents=True)
    dataset, config = Synthetic(train_per_class=1, val_per_class=3), ShardConfig(storage="square64", samples_per_shard=25)
    for plan in plan_shards(dataset, "val", config, work):
        write_shard(dataset, plan, config, directory, work)
    write_lists(dataset, directory, work)
    classes = pd.read_parquet(directory / "classes.parquet")
    classes["ilsvrc_id"] = pd.array(IDS, "Int32")
    classes.to_parquet(directory / "classes.parquet")
    samples = pd.read_parquet(directory / "samples.parquet")
    samples["name"] = [f"val_{number:08d}.JPEG" for number in np.random.default_rng(0).permutation(len(samples))]
    samples.to_parquet(directory / "samples.parquet")
    costs = np.random.default_rng(0).integers(1, 18, (20, 20)).astype(np.uint8)
    np.fill_diagonal(costs, 0)
    np.save(directory / "cost_matrix.npy", costs)
    return as_artifact(directory, {"storage": "square64"})


def predicted(shards, folder, seed, favour=1.5, **changes):
    shard_set = ShardSet.open(shards.path)
    generator = torch.Generator().manual_seed(seed)
    true = shard_set.class_indices.copy()
    logits = torch.randn(len(true), 20, generator=generator)
    logits[torch.arange(len(true)), torch.from_numpy(true)] += favour
    about = {"wnids": shard_set.wnids, "weights": str(seed), **changes}
    folder.mkdir()
    write_part(folder / "predictions.parquet", list(shard_set.samples["key"]), true, logits.softmax(1), about)
    return as_artifact(folder, {"views": 10})


def as_artifact(directory, settings):
    """Give a folder a manifest."""
    directory.rename(directory.with_name(f"{directory.name}.partial"))
    return publish(directory, Key({}, settings, "code"), {})


def tabulate(predictions, plans, folder, shards, others=()):
    networks = [Weights(path=made.path, digest=made.digest) for made in predictions]
    return write_error_rates.fn(plans, predictions, networks, shards, "val", 10, "demo", Workspace(path=folder), others)


def set_of(shards, folder, name, classes=20):
    """Return a test set of the images of the first classes, and the images' keys and class indices."""
    directory = shutil.copytree(shards.path, folder / "shards" / name / "test" / "key", ignore=shutil.ignore_patterns("cost*"))
    samples = pd.read_parquet(directory / "samples.parquet")
    samples = samples[samples["class_index"] < classes]
    samples.to_parquet(directory / "samples.parquet")
    return shards.model_copy(update={"path": directory, "digest": name}), samples


def test_a_submission_scores_what_the_tables_say(shards, tmp_path):
    """The same average, once by class index and once by ILSVRC ID and file name."""
    made = [predicted(shards, tmp_path / str(seed), seed) for seed in range(3)]
    tabulate(made, [RowPlan(table="evaluation", model="all", members=(0, 1, 2))], tmp_path, shards)
    row = pd.read_parquet(tmp_path / "tables" / "error_rates.parquet").query("source == 'measured'").iloc[0]
    submission = write_submission.fn(made, shards, "val", Workspace(path=tmp_path))
    assert submission == write_submission.fn(made, shards, "val", Workspace(path=tmp_path))
    shard_set = ShardSet.open(shards.path)
    in_order = shard_set.samples.sort_values("name")
    true_ids = [IDS[index] for index in in_order["class_index"]]
    parsed = parse_submission((submission.path / SUBMISSION).read_text(), 20, "s")
    scores = score(parsed, true_ids, np.load(shards.path / "cost_matrix.npy"), "s")
    assert (scores[0].wrong, scores[4].wrong) == (row["top1_wrong"], row["top5_wrong"])
    assert (scores[0].hierarchical_error, scores[4].hierarchical_error) == (row["top1_cost"], row["top5_cost"])
    assert submission.counts == {"images": 60, "networks": 3}


def test_another_set_is_compared_with_what_has_the_same_classes(shards, tmp_path):
    """Counted by hand: a set of all classes beside val, and one of five classes beside the val images of these."""
    made = [predicted(shards, tmp_path / str(seed), seed) for seed in range(2)]
    (all_classes, _), (some, samples) = (
        set_of(shards, tmp_path, "imagenet-v2-top-images"),
        set_of(shards, tmp_path, "imagenet-r", 5),
    )
    others = [
        OtherSet(shards=all_classes, split="test").scored(
            [predicted(shards, tmp_path / f"v{seed}", 9 + seed) for seed in range(2)]
        ),
        OtherSet(shards=some, split="test").scored([predicted(some, tmp_path / f"r{seed}", seed, 0.5) for seed in range(2)]),
    ]
    plans = [RowPlan(table="evaluation", model="one", members=(0,)), RowPlan(table="evaluation", model="both", members=(0, 1))]
    record = tabulate(made, plans, tmp_path, shards, others)
    rates = pd.read_parquet(tmp_path / "tables" / "error_rates.parquet").query("source == 'measured'")
    found = [
        (row.dataset, row.model, None if pd.isna(row.classes) else row.classes, row.num_images) for row in rates.itertuples()
    ]
    expected = [("synthetic", None, 60), ("imagenet-v2-top-images", None, 60), ("synthetic", "imagenet-r", 15)]
    expected.append(("imagenet-r", "imagenet-r", 15))
    assert found == [(name, model, classes, n) for name, classes, n in expected for model in ("one", "both")]
    probs = np.mean([np.stack(frame_of(other)["probs"]) for other in others[1].predictions], axis=0)[:, :5]
    wrong = [probs[n].argmax() != index for n, index in enumerate(samples["class_index"])]
    assert rates.iloc[-1]["top1_wrong"] == sum(wrong)
    shifts = pd.read_parquet(record.paths[-1])
    assert list(shifts["val_num_images"]) == [60] * 4 + [15] * 4
    assert list(shifts["wrong"]) == [
        row[f"top{rank}_wrong"] for at in (2, 3, 6, 7) for rank in (1, 5) for row in [rates.iloc[at]]
    ]
    assert "both on imagenet-r test, among imagenet-r against synthetic val, among imagenet-r, top-1: " in record.text
    assert rates["top1_cost"].notna().tolist() == [True] * 2 + [False] * 6


def frame_of(predictions):
    return pd.read_parquet(predictions.path / "predictions.parquet")


def test_labels_that_do_not_fit_and_a_set_without_its_path_are_refused(shards, tmp_path):
    (tmp_path / "real.json").write_text("[[0], [20]]")
    workspace, config = Workspace(path=tmp_path), ShardConfig(storage="square64")
    for on, path, labels, message in (
        ("imagenet-a", None, None, "--on and --on-source belong together: the name of a test set, and its archive or folder"),
        (None, tmp_path, None, "--on and --on-source belong together"),
        (None, None, tmp_path / "real.json", "an image is called val_0.*JPEG; .* labels the validation images of ILSVRC-2012"),
    ):
        with pytest.raises(InputError, match=message):
            shard_others(on, path, labels, shards, "val", config, workspace)
    assert shard_others(None, None, None, shards, "val", config, workspace) == []


def test_without_costs_there_is_no_hierarchical_cost(shards, tmp_path):
    bare = shutil.copytree(shards.path, tmp_path / "shards" / "synthetic" / "val" / "key")
    (bare / "cost_matrix.npy").unlink()
    made = [predicted(shards, tmp_path / "0", 0)]
    tabulate(made, [RowPlan(table="evaluation", model="one", members=(0,))], tmp_path, shards.model_copy(update={"path": bare}))
    row = pd.read_parquet(tmp_path / "tables" / "error_rates.parquet").query("source == 'measured'").iloc[0]
    assert pd.isna(row["top1_cost"])


def test_searched_weights_are_in_the_row_with_what_chose_them(shards, tmp_path):
    made = [predicted(shards, tmp_path / str(seed), seed, favour) for seed, favour in ((0, 2.5), (1, 0.0))]
    weights = search_member_weights.fn(made)
    plan = RowPlan(table="evaluation", model="w", members=(0, 1), member_weights=weights, selected_on="val")
    tabulate(made, [plan], tmp_path, shards)
    row = pd.read_parquet(tmp_path / "tables" / "error_rates.parquet").query("source == 'measured'").iloc[0]
    assert tuple(row["member_weights"]) == weights
    assert row["selected_on"] == "val"


def test_a_network_that_guesses_is_warned_of(shards, tmp_path, caplog):
    made = [predicted(shards, tmp_path / "0", 0, favour=0.0), predicted(shards, tmp_path / "1", 1, favour=3)]
    plans = [RowPlan(table="evaluation", model=name, members=(n,)) for n, name in enumerate(("guesses", "knows"))]
    logger = logging.getLogger("prefect.tasks")
    logger.addHandler(caplog.handler)
    try:
        tabulate(made, plans, tmp_path, shards)
    finally:
        logger.removeHandler(caplog.handler)
    (message,) = {record.getMessage() for record in caplog.records if record.levelno == logging.WARNING}
    assert message.startswith("guesses is right on ")
    assert message.endswith(
        "of 60 images, no more than guessing among 20 classes; are its classes in the right order, "
        "its inputs scaled as it expects?"
    )


def test_networks_that_saw_other_classes_are_refused(shards, tmp_path):
    wnids = ShardSet.open(shards.path).wnids[::-1]
    made = [predicted(shards, tmp_path / "0", 0), predicted(shards, tmp_path / "1", 1, wnids=wnids)]
    plans = [RowPlan(table="evaluation", model=str(n), members=(n,)) for n in range(2)]
    with pytest.raises(InputError, match="members with different classes: 20 in .* and 20 in .*; number 1 is 'n9"):
        tabulate(made, plans, tmp_path, shards)
    assert not (tmp_path / "tables").exists()


def test_classes_without_ilsvrc_ids_cannot_be_submitted(shards, tmp_path):
    made = [predicted(shards, tmp_path / "0", 0)]
    bare = tmp_path / "bare"
    bare.mkdir()
    for file in shards.path.iterdir():
        if file.is_file():
            (bare / file.name).write_bytes(file.read_bytes())
    classes = pd.read_parquet(bare / "classes.parquet")
    classes["ilsvrc_id"] = pd.array([None] * 20, "Int32")
    classes.to_parquet(bare / "classes.parquet")
    with pytest.raises(InputError, match="the classes of .*bare have no ILSVRC IDs, by which a submission names them"):
        write_submission.fn(made, shards.model_copy(update={"path": bare}), "val", Workspace(path=tmp_path))
