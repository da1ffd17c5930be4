"""Whole experiments under one name: images, network, recipe. The flows' parameters change single values of them."""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from base.errors import InputError
from data_shards.datasets.dataset import Split
from data_shards.datasets.fall import FallSource
from data_shards.datasets.folder import FolderSource
from data_shards.datasets.ilsvrc import IlsvrcSource
from data_shards.datasets.imagenet_v2 import ImageNetV2Source
from data_shards.datasets.imagenet_variants import ImageNetVariantSource
from data_shards.datasets.imagenette import ImagenetteSource
from data_shards.datasets.parquet import ParquetSource
from data_shards.datasets.source import AnySource
from data_shards.datasets.synthetic import SyntheticSource
from data_shards.datasets.tiny_imagenet import TinyImageNetSource
from data_shards.datasets.wds import WdsSource
from data_shards.planning import ShardConfig
from model.network.config import Initial, NetworkConfig
from model.retrieval.config import RetrievalConfig
from model.training.config import TrainConfig
from model.training.recipes import RECIPES, RecipeName

PresetName = Literal[
    "demo",
    "tiny",
    "folder",
    "small-folder",
    "ilsvrc2010",
    "ilsvrc2012",
    "fall2009",
    "fall2011",
    "winter21",
    "parquet",
    "wds",
    "imagenette",
    "imagewoof",
    "imagenet-v2",
    "imagenet-a",
    "imagenet-r",
    "imagenet-sketch",
]
TestSetName = Literal["imagenet-v2", "imagenet-a", "imagenet-r", "imagenet-sketch"]
"""Sets that are only for testing."""


class Preset(BaseModel):
    """One experiment."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    target: AnySource
    """Plays ILSVRC-2012."""
    superset: AnySource | None
    """Plays Fall 2011; without one there are no starred rows."""
    shards: ShardConfig
    network: NetworkConfig
    """Its number of classes is that of the images."""
    recipe: str = "paper"
    """The name of its training recipe."""
    training: TrainConfig
    pre_training: TrainConfig
    pre_training_bottleneck: int | None = None
    """[CHM layers-146-2011] Units a tower of a linear layer before the superset's classes; dropped when fine-tuning."""
    fine_tuning: TrainConfig
    num_networks: int = Field(5, gt=0)
    """[K12 table 2] "5 CNNs"."""
    num_pretrained: int = Field(2, ge=0)
    """[K12 table 2] "7 CNNs*" averages two pre-trained networks with the five."""
    table: Literal["table1", "table2", "fall2009", "evaluation"] = "table2"
    """The paper's table that its rows stand in, beside the published ones; `evaluation` for none of them."""
    scored_on: Split = "val"
    """The images that the table is about."""
    retrieval: RetrievalConfig | None = None
    """[K12 §6.1] How much of it is measured; None for nothing."""
    threads_per_network: int | None = None
    """(ours) CPU threads; all processors where not given. Small networks learn fastest side by side on one thread each."""

    def with_networks(self, num_networks: int | None, num_pretrained: int | None) -> "Preset":
        """Return the preset with other numbers of networks, where they are given."""
        numbers = {"num_networks": num_networks, "num_pretrained": num_pretrained}
        return self.model_copy(update={name: number for name, number in numbers.items() if number is not None})


_SMALL_STEPS: dict[str, Any] = {
    "schedule": "steps",
    "drop_at": (0.6, 0.85),
    "drop_factor": 5,
    "initial": Initial(middle_std=0.03),
}
"""(ours) A network that learns for minutes is still learning at a fifth of the rate; at a tenth it all but stops. With the
paper's deviation in the middle layers it learns more slowly at first."""

_DEMO_RATE: dict[str, Any] = {"batch_size": 64, "learning_rate": 0.0075, **_SMALL_STEPS}
"""(ours) The largest rate of those tried at which a network this small learns steadily, with twice the steps an epoch."""

_SHORT_PRE_TRAINING: dict[str, Any] = {"copied_rate": 0.3, "copied_conv1_rate": 0.3, "fresh_after_steps": 0}
"""(ours) Pre-training that lasts a minute leaves the copied layers with much to learn."""

DEMO = Preset(
    target=SyntheticSource(num_classes=20, train_per_class=100, val_per_class=50),
    superset=SyntheticSource(num_classes=40, train_per_class=100, val_per_class=25),
    shards=ShardConfig(storage="square72"),
    network=NetworkConfig(crop=64, width=1 / 4),
    recipe="demo",
    training=TrainConfig(epochs=20, validate_every=5, **_DEMO_RATE),
    pre_training=TrainConfig(epochs=10, validate_every=5, **_DEMO_RATE),
    fine_tuning=TrainConfig(epochs=10, validate_every=5, **_SHORT_PRE_TRAINING, **_DEMO_RATE),
    retrieval=RetrievalConfig(num_networks=5, epochs=20, batch_size=128),
    threads_per_network=1,
)
"""(ours) Synthetic images, a network a quarter as wide, everything in minutes on two cores."""

TINY = Preset(
    target=TinyImageNetSource(num_classes=20),
    superset=TinyImageNetSource(num_classes=40),
    shards=ShardConfig(storage="square128"),
    network=NetworkConfig(crop=112, width=1 / 4),
    recipe="tiny",
    training=TrainConfig(epochs=15, validate_every=3, **_SMALL_STEPS),
    pre_training=TrainConfig(epochs=10, validate_every=5, **_SMALL_STEPS),
    fine_tuning=TrainConfig(epochs=8, validate_every=4, **_SHORT_PRE_TRAINING, **_SMALL_STEPS),
    retrieval=RetrievalConfig(num_seeds=3),
    threads_per_network=1,
)
"""(ours) Twenty classes of real images, with forty as the superset."""

_FULL_SIZE: dict[str, Any] = {
    "shards": ShardConfig(),
    "network": NetworkConfig(),
    "training": TrainConfig(),
    "pre_training": TrainConfig(),
    "fine_tuning": TrainConfig(),
}
"""The paper's network and recipe."""

_SIXTH_CONV: dict[str, Any] = {**_FULL_SIZE, "network": NetworkConfig(sixth_conv=True, bottleneck=1024)}
"""[K12 §6, CHM layers-146-2011] As the whole releases were learnt."""

FOLDER = Preset(target=FolderSource(), superset=None, retrieval=RetrievalConfig(pixels=False), **_FULL_SIZE)
"""Your own folder of class folders."""

SMALL_FOLDER = DEMO.model_copy(update={"target": FolderSource(), "superset": None, "table": "evaluation"})
"""(ours) Your own folder of class folders, with the network and the recipe of `demo`: minutes on two cores."""

PARQUET = Preset(target=ParquetSource(), superset=None, **_FULL_SIZE)
"""Images in Hugging Face's Parquet files."""

WDS = Preset(target=WdsSource(), superset=None, **_FULL_SIZE)
"""Images in your own WebDataset tars."""

_TEN_CLASSES: dict[str, Any] = {
    "superset": None,
    "shards": ShardConfig(storage="square128"),
    "network": NetworkConfig(crop=112, width=1 / 4),
    "recipe": "tiny",
    "training": TINY.training,
    "pre_training": TINY.pre_training,
    "fine_tuning": TINY.fine_tuning,
    "threads_per_network": 1,
    "table": "evaluation",
}

IMAGENETTE = Preset(target=ImagenetteSource(kind="imagenette"), **_TEN_CLASSES)
"""(ours) Ten classes that are easy to tell apart, with the network and recipe of `tiny`. Top-5 of ten says little. Run on a
miniature only."""

IMAGEWOOF = Preset(target=ImagenetteSource(kind="imagewoof"), **_TEN_CLASSES)
"""(ours) Ten breeds of dogs, likewise."""

ILSVRC2010 = Preset(
    target=IlsvrcSource(kind="ilsvrc2010"),
    superset=None,
    num_networks=1,
    table="table1",
    scored_on="test",
    retrieval=RetrievalConfig(pixels=False, num_seeds=3),
    **_FULL_SIZE,
)
"""[K12 table 1]"""

ILSVRC2012 = Preset(
    target=IlsvrcSource(kind="ilsvrc2012"),
    superset=FallSource(kind="fall2011"),
    pre_training_bottleneck=1024,
    retrieval=RetrievalConfig(pixels=False, num_seeds=3),
    **_FULL_SIZE,
)
"""[K12 table 2]"""

FALL2009 = Preset(
    target=FallSource(kind="fall2009"), superset=None, num_networks=1, table="fall2009", scored_on="test", **_SIXTH_CONV
)
"""[K12 §6]"""

FALL2011 = Preset(target=FallSource(kind="fall2011"), superset=None, num_networks=1, table="evaluation", **_SIXTH_CONV)
"""[K12 §6] What starred networks are pre-trained on."""

WINTER21 = Preset(target=FallSource(kind="winter21"), superset=None, num_networks=1, table="evaluation", **_SIXTH_CONV)
"""(ours) Fall 2011's successor, which is handed out in its place."""

_TEST_SET: dict[str, Any] = {**_FULL_SIZE, "superset": None, "num_networks": 1, "table": "evaluation", "scored_on": "test"}
"""Nothing is trained on a test set; `flows.evaluate --on` scores networks of ILSVRC-2012 on it."""

IMAGENET_V2 = Preset(target=ImageNetV2Source(), **_TEST_SET)
"""[Recht 2019] New images, chosen as those of ILSVRC-2012 were."""

IMAGENET_A = Preset(target=ImageNetVariantSource(kind="imagenet-a"), **_TEST_SET)
"""[Hendrycks 2021b] Images that a ResNet-50 gets wrong, of 200 classes."""

IMAGENET_R = Preset(target=ImageNetVariantSource(kind="imagenet-r"), **_TEST_SET)
"""[Hendrycks 2021a] Paintings, toys and the like, of 200 classes."""

IMAGENET_SKETCH = Preset(target=ImageNetVariantSource(kind="imagenet-sketch"), **_TEST_SET)
"""[Wang 2019] Drawings."""

PRESETS: dict[PresetName, Preset] = {
    "demo": DEMO,
    "tiny": TINY,
    "folder": FOLDER,
    "small-folder": SMALL_FOLDER,
    "ilsvrc2010": ILSVRC2010,
    "ilsvrc2012": ILSVRC2012,
    "fall2009": FALL2009,
    "fall2011": FALL2011,
    "winter21": WINTER21,
    "parquet": PARQUET,
    "wds": WDS,
    "imagenette": IMAGENETTE,
    "imagewoof": IMAGEWOOF,
    "imagenet-v2": IMAGENET_V2,
    "imagenet-a": IMAGENET_A,
    "imagenet-r": IMAGENET_R,
    "imagenet-sketch": IMAGENET_SKETCH,
}


def load_preset(name: PresetName, source: Path | None, recipe: RecipeName | None = None, **changes: dict[str, Any]) -> Preset:
    """Return a preset reading from `source`, with single values of its parts changed: `training={"epochs": 3}`.

    A recipe replaces the preset's trainings, epochs included. Values that are None are left as they are.

    Raises:
        InputError: a value that its part does not have, or one that is out of range.
    """
    chosen = PRESETS[name] if recipe is None else _with_recipe(PRESETS[name], recipe)
    if source is not None:
        for part in ("target", "superset"):
            changes[part] = {"path": source, **changes.get(part, {})}
    values = chosen.model_dump()
    for part, change in changes.items():
        if values[part] is not None:
            values[part] |= {name: value for name, value in change.items() if value is not None}
    try:
        return Preset.model_validate(values)
    except ValidationError as error:
        raise InputError(_first_sentence(error, name)) from error


def _first_sentence(error: ValidationError, preset: str) -> str:
    """What pydantic says about the first wrong value."""
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"] if part not in ("target", "superset") or len(first["loc"]) == 1)
    return f"preset {preset}: {place or 'value'}: {first['msg'].removeprefix('Value error, ')}, found {first['input']!r}"


def _with_recipe(preset: Preset, name: RecipeName) -> Preset:
    recipe = RECIPES[name]
    training = TrainConfig(**recipe.training)
    return preset.model_copy(
        update={
            "recipe": name,
            "network": preset.network.model_copy(update=recipe.network),
            "training": training,
            "pre_training": training,
            "fine_tuning": training.model_copy(update=recipe.fine_tuning),
        }
    )
