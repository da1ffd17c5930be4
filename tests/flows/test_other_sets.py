"""Networks on other test sets and by other labels, from the command line; every count is made again from the predictions."""

import json
import re

import numpy as np
import pandas as pd
import pytest

from model.network.alexnet import AlexNet
from model.network.config import NetworkConfig
from model.network.inputs import Colours
from model.network.weights import WeightsInfo, save_weights

WNIDS = [f"n{10_000_000 + 7 * n}" for n in range(6)]
REAL = [[n // 4] if n % 4 == 0 else [] if n % 4 == 1 else [(n + 1) % 6, (n + 3) % 6] for n in range(24)]
"""Of 24 images, four of each class: the same label, none, or two others."""
COLOURS = Colours(mean=(115, 114, 116), deviations=(30, 40, 70), components=((1, 0, 0), (0, 1, 0), (0, 0, 1)), num_images=1)


def write(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


@pytest.fixture(scope="module")
def home(tmp_path_factory, picture):
    """Return a folder with images, three classes of ImageNet-A, labels and weights."""
    home = tmp_path_factory.mktemp("home")
    for n in range(24):
        write(home / "images" / "val" / WNIDS[n // 4] / f"ILSVRC2012_val_{n + 1:08d}.JPEG", picture(20 * n))
        write(home / "images" / "train" / WNIDS[n // 4] / f"{n}.JPEG", picture(20 * n + 1))
    for n in range(9):
        write(home / "imagenet-a" / [*WNIDS[3:5], "n01440764"][n % 3] / f"{n}_a b.jpg", picture(50 * n))
    (home / "real.json").write_text(json.dumps(REAL))
    network = NetworkConfig(num_classes=6, crop=64, width=1 / 12)
    info = WeightsInfo(network=network, colours=COLOURS, wnids=WNIDS)
    for seed in range(2):
        save_weights(AlexNet(network).initialise(seed), info, home / f"cnn-{seed}.safetensors")
    return home


@pytest.fixture(scope="module")
def said(home, program):
    """Return what the flow prints that scores two networks on val, on A, and by ReaL."""
    words = ["--preset", "folder", "--source", "images", "--views", "1", "--labels", "real.json"]
    words += ["--weights", "cnn-0.safetensors", "cnn-1.safetensors", "--names", "first", "second"]
    words += ["--on", "imagenet-a", "--on-source", "imagenet-a"]
    done = program("flows.evaluate", *words, cwd=home)
    assert done.returncode == 0, done.stdout
    assert "Traceback" not in done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def rates(home, said):
    return pd.read_parquet(home / "artifacts/tables/error_rates.parquet").query("source == 'measured'")


def mean_probs(home, members, folder):
    """Return the mean probabilities of some networks by image, with the true WNIDs."""
    files = [
        pd.read_parquet(next((home / "artifacts/predictions" / digest[:12] / folder).rglob("predictions.parquet")))
        for digest in members
    ]
    probs = np.mean([np.stack(file["probs"]) for file in files], axis=0, dtype=np.float64).astype(np.float32)
    return pd.DataFrame(probs, files[0]["image_id"], WNIDS), dict(zip(files[0]["image_id"], files[0]["wnid"], strict=True))


def count_wrong(probs, right, ranked, rank):
    """Count images none of whose right classes is among the first, by sorting."""
    best = {key: sorted(ranked, key=lambda wnid: -row[wnid])[:rank] for key, row in probs.iterrows()}
    return sum(not set(best[key]) & set(right[key]) for key in right)


def test_a_set_of_some_classes_is_ranked_among_these_and_so_is_val(home, rates):
    some = rates[rates["classes"] == "imagenet-a-6-" + rates["dataset"].str.extract(r"imagenet-a-6-(\w+)")[0].dropna().iloc[0]]
    assert list(some["model"]) == ["first", "second", "2 networks"] * 2
    assert list(some["num_images"]) == [8] * 3 + [6] * 3
    assert some["labels"].isna().all()
    for row in some.itertuples():
        probs, true = mean_probs(home, row.members, f"{row.dataset}-{row.split}")
        right = {key: [wnid] for key, wnid in true.items() if wnid in WNIDS[3:5]}
        assert row.num_images == len(right)
        assert row.top1_wrong == count_wrong(probs, right, WNIDS[3:5], 1)
        assert row.top5_wrong == 0
    assert [row.dataset for row in some.itertuples()][:3] == ["images"] * 3


def test_any_label_of_real_is_right_and_images_without_one_do_not_count(home, rates):
    real = rates[rates["labels"] == "real"]
    assert list(real["model"]) == ["first", "second", "2 networks"]
    assert (real["num_images"] == sum(map(bool, REAL))).all()
    assert real["classes"].isna().all()
    for row in real.itertuples():
        probs, _ = mean_probs(home, row.members, "images-val")
        numbers = {key: int(re.search(r"val_(\d{8})", key)[1]) for key in probs.index}
        right = {key: [WNIDS[label] for label in REAL[number - 1]] for key, number in numbers.items() if REAL[number - 1]}
        for rank, wrong in ((1, row.top1_wrong), (5, row.top5_wrong)):
            assert wrong == count_wrong(probs, right, WNIDS, rank)


def test_the_plain_rows_are_there_and_none_is_hidden(rates):
    plain = rates[rates["labels"].isna() & rates["classes"].isna() & (rates["dataset"] == "images")]
    assert list(plain["model"]) == ["first", "second", "2 networks"]
    assert (plain["num_images"] == 24).all()


def test_shifts_compare_the_same_weights(home, said, rates):
    shifts = pd.read_parquet(home / "artifacts/tables/shifts.parquet")
    assert list(shifts["model"]) == [m for m in ("first", "second", "2 networks") * 2 for _ in (1, 5)]
    for row in shifts.itertuples():
        mine = rates[(rates["model"] == row.model) & (rates["created_at"] == row.created_at)]
        same = mine[mine["classes"].isna() if pd.isna(row.classes) else mine["classes"] == row.classes]
        val = same[(same["dataset"] == row.val_dataset) & (same["split"] == "val") & same["labels"].isna()].iloc[0]
        other = same[
            (same["shards"] == row.shards) & (same["labels"].isna() if pd.isna(row.labels) else same["labels"] == "real")
        ]
        other = other.iloc[-1]
        assert (row.val_wrong, row.val_num_images) == (val[f"top{row.rank}_wrong"], val["num_images"])
        assert (row.wrong, row.num_images) == (other[f"top{row.rank}_wrong"], other["num_images"])
        assert row.difference == pytest.approx(row.wrong / row.num_images - row.val_wrong / row.val_num_images)
        assert row.difference_low <= row.difference <= row.difference_high
    assert "2 networks on images val, labels real against images val, top-1: " in said
    assert re.search(r"first on (imagenet-a-6-\w+) test, among \1 against images val, among \1, top-1: ", said)
    assert said.rstrip().endswith("artifacts/tables/shifts.parquet")
    assert "3 images of classes that the networks do not have" in said
    gaps = pd.read_parquet(home / "artifacts/tables/gaps.parquet")
    assert "measured" not in set(gaps["source"])
