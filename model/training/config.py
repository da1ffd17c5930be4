"""How one network is trained: every number of the recipe, declared once with its source."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class TrainConfig(BaseModel):
    """The paper's recipe for one network, unless a field says otherwise."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    seed: int = Field(0, ge=0)
    """(ours) Of the initial weights, the order of the images, crops, colour noise and dropout."""

    epochs: int = Field(90, gt=0)
    """[K12 §5]"""

    batch_size: int = Field(128, gt=0)
    """[K12 §5]"""

    learning_rate: float = Field(0.01, gt=0)
    """[K12 §5] Of all layers, at first."""

    momentum: float = Field(0.9, ge=0, lt=1)
    """[K12 §5]"""

    weight_decay: float = Field(5e-4, ge=0)
    """[K12 §5]"""

    schedule: Literal["plateau", "steps"] = "plateau"
    """[K12 §5] `plateau` divides the rate when validation error stops improving, `steps` at set shares of the epochs."""

    drop_factor: float = Field(10.0, gt=1)
    """[K12 §5] What the rate is divided by."""

    num_drops: int = Field(3, ge=0)
    """[K12 §5] How often `plateau` divides the rate; where it would once more, training ends."""

    patience_epochs: int = Field(5, gt=0)
    """(ours) The paper divides the rate by eye; five flat epochs stand in for the eye."""

    drop_at: tuple[float, ...] = (25 / 91, 51 / 91, 79 / 91)
    """[CHM 2012 logs] Shares of the epochs after which `steps` divides the rate: 25, 51 and 79 of 91."""

    colour_noise: float = Field(0.1, ge=0)
    """[K12 §4.1] Standard deviation of the factors on the eigenvalues."""

    copied_rate: float = Field(0.1, gt=0)
    """[CHM fine-tuning] Share of the rate for layers copied from other weights."""

    copied_conv1_rate: float = Field(0.01, gt=0)
    """[CHM fine-tuning] The same for a copied conv1."""

    validate_every: int = Field(1, gt=0)
    """(ours) Epochs between measurements of the validation error; the last epoch is always measured."""
