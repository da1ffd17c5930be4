"""Every default is declared once, with its source, and presets hold together."""

import re
from typing import get_args

import pytest
from pydantic import ValidationError

from base.errors import InputError
from data_shards.datasets.fall import FallSource
from data_shards.datasets.folder import FolderSource
from data_shards.datasets.ilsvrc import IlsvrcSource
from data_shards.datasets.imagenet_v2 import ImageNetV2Source
from data_shards.datasets.imagenet_variants import ImageNetVariantSource
from data_shards.datasets.imagenette import ImagenetteSource
from data_shards.datasets.parquet import ParquetSource
from data_shards.datasets.synthetic import SyntheticSource
from data_shards.datasets.tiny_imagenet import TinyImageNetSource
from data_shards.datasets.wds import WdsSource
from data_shards.planning import ShardConfig
from data_shards.storage import parse_storage
from flows.presets import PRESETS, Preset, TestSetName, load_preset
from model.network.config import Initial, NetworkConfig
from model.training.config import TrainConfig
from model.training.recipes import CODE2012

SOURCES = re.compile(r"\[(K12|CHM|CCN2|LB|INF)[^\]]*\]|\(ours\)|Plays |Its number of classes")


SOURCE_TYPES = [
    SyntheticSource,
    TinyImageNetSource,
    FolderSource,
    IlsvrcSource,
    FallSource,
    ParquetSource,
    WdsSource,
    ImagenetteSource,
    ImageNetV2Source,
    ImageNetVariantSource,
]


@pytest.mark.parametrize("config", [ShardConfig, Initial, NetworkConfig, TrainConfig, *SOURCE_TYPES])
def test_every_field_of_a_configuration_names_its_source(config):
    for name, field in config.model_fields.items():
        assert field.description, f"{config.__name__}.{name} has no docstring"
        assert SOURCES.search(field.description), f"{config.__name__}.{name} does not say where its value comes from"


@pytest.mark.parametrize("name", PRESETS)
def test_images_are_at_least_as_large_as_the_crops(name):
    preset = PRESETS[name]
    side = parse_storage(preset.shards.storage).side
    assert side is not None
    assert side >= preset.network.crop


def test_the_folder_preset_is_the_papers_network_and_recipe():
    assert PRESETS["folder"].network == NetworkConfig()
    assert PRESETS["folder"].training == TrainConfig()


def test_changes_reach_their_part_and_none_changes_nothing():
    changed = load_preset("demo", None, training={"epochs": 3, "seed": None})
    assert changed.training == PRESETS["demo"].training.model_copy(update={"epochs": 3})
    assert load_preset("demo", None, training={"epochs": None}) == PRESETS["demo"]


def test_a_recipe_takes_the_place_of_the_trainings_and_leaves_sizes_alone():
    preset = load_preset("tiny", None, "code2012", training={"epochs": 12})
    assert preset.training == TrainConfig(**CODE2012.training).model_copy(update={"epochs": 12})
    assert preset.fine_tuning == TrainConfig(**{**CODE2012.training, **CODE2012.fine_tuning})
    assert preset.network == PRESETS["tiny"].network.model_copy(update=CODE2012.network)
    assert preset.shards == PRESETS["tiny"].shards


def test_a_preset_names_the_recipe_that_it_uses():
    assert {name: preset.recipe for name, preset in PRESETS.items()} == dict.fromkeys(PRESETS, "paper") | {
        "demo": "demo",
        "small-folder": "demo",
        "tiny": "tiny",
        "imagenette": "tiny",
        "imagewoof": "tiny",
    }
    assert load_preset("demo", None, "code2012").recipe == "code2012"


def test_a_source_reaches_target_and_superset(tmp_path):
    preset = load_preset("tiny", tmp_path)
    assert preset.target.path == tmp_path
    assert preset.superset is not None
    assert preset.superset.path == tmp_path


def test_a_wrong_value_is_refused():
    with pytest.raises(InputError, match="^preset demo: training.epochs: Input should be greater than 0, found 0$"):
        load_preset("demo", None, training={"epochs": 0})


def test_a_source_that_is_not_read_from_a_path_is_refused_one(tmp_path):
    with pytest.raises(InputError, match=r"^preset demo: synthetic.path: Extra inputs are not permitted, found .*"):
        load_preset("demo", tmp_path)


def test_preset_types_are_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        PRESETS["demo"].num_networks = 3
    assert Preset.model_config["extra"] == "forbid"


def test_a_test_set_is_a_preset_of_its_own_name_that_is_scored_on_test(tmp_path):
    for name in get_args(TestSetName):
        preset = load_preset(name, tmp_path, target={"classes": ("n01440764", "n01443537")})
        assert (preset.target.kind, preset.scored_on, preset.superset) == (name, "test", None)
        with pytest.raises(InputError, match="is a test set, which has no split train; its split is test$"):
            preset.target.open(tmp_path).archives("train")
