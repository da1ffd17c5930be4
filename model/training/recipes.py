"""The named recipes: `paper`, its text; `code2012` and `code2010`, what its authors ran; `dexp`, an unattended schedule.

A recipe holds the differences from the defaults of `NetworkConfig` and `TrainConfig`, which are the paper's.
"""

from typing import Any, Literal, NamedTuple

from model.network.config import Initial

RecipeName = Literal["paper", "code2012", "code2010", "dexp"]


class TrainingRecipe(NamedTuple):
    """Differences from the paper."""

    network: dict[str, Any]
    training: dict[str, Any]
    fine_tuning: dict[str, Any]
    """On top of `training`."""


_CODE_NETWORK: dict[str, Any] = {"lrn_alpha": 1e-4 / 5, "relu_after_pool1": True}
"""[CHM layers-145], [CCN2 layers-imagenet-1gpu]"""

PAPER = TrainingRecipe(network={}, training={}, fine_tuning={})
"""[K12 §3, §4, §5]"""

CODE2012 = TrainingRecipe(
    network={**_CODE_NETWORK, "spatial_norm": True},
    training={
        "epochs": 91,
        "initial": Initial(middle_std=0.03),
        "bias_rate": 2.0,
        "bias_decay": 0.0,
        "schedule": "steps",
        "bias_schedule": "constant",
        "conv1_slowed_at": 67 / 91,
        "conv1_frozen_at": 72 / 91,
        "mean": "image",
        "images_per_draw": 32,
        "colour_noise_along": "deviations",
        "shrink_with_noise": True,
        "colour_noise_until": 67 / 91,
    },
    fine_tuning={
        "epochs": 54,
        "drop_at": (22 / 54, 42 / 54),
        "conv1_slowed_at": 5 / 54,
        "conv1_frozen_at": 7 / 54,
        "fresh_until": 9 / 54,
        "colour_noise_until": 38 / 54,
    },
)
"""[CHM layers-145, layer-params-145, convdata_jpeg, layer-params-146-2012-2011]"""

CODE2010 = CODE2012._replace(training={**CODE2012.training, "epochs": 93, "drop_at": (23 / 93, 51 / 93, 78 / 93)})
"""[CHM layer-params-145-2010]"""

DEXP = TrainingRecipe(
    network=_CODE_NETWORK,
    training={
        "initial": Initial(middle_std=0.03, last_bias=-7.0),
        "bias_rate": 2.0,
        "bias_decay": 0.0,
        "schedule": "dexp",
        "bias_schedule": "dexp",
    },
    fine_tuning={},
)
"""[CCN2 layers-imagenet-1gpu, layer-params-imagenet-1gpu], on the two-tower network."""

RECIPES: dict[RecipeName, TrainingRecipe] = {"paper": PAPER, "code2012": CODE2012, "code2010": CODE2010, "dexp": DEXP}
