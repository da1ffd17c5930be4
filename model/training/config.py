"""How one network is trained: every number of the recipe, declared once with its source.

The defaults are the paper's. If the 2012 code differs, the field says so and `model.training.recipes` has its value.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from model.network.config import Initial

Precision = Literal["fp32", "tf32", "bf16"]

Share = float | None
"""Fraction of all epochs; None for never."""


class TrainConfig(BaseModel):
    """The paper's recipe for one network, unless a field says otherwise."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    seed: int = Field(0, ge=0)
    """(ours) Seed of the initial weights, the order of the images, crops, colour noise and dropout."""

    epochs: int = Field(90, gt=0)
    """[K12 §5] About 90. [CHM layer-params-145] stopped after 91, the 2010 run after 93."""

    batch_size: int = Field(128, gt=0)
    """[K12 §5] Images per step, of all replicas together."""

    initial: Initial = Initial()
    """[K12 §5]"""

    learning_rate: float = Field(0.01, gt=0)
    """[K12 §5] The first rate of the weights."""

    bias_rate: float = Field(1.0, gt=0)
    """[K12 §5] The biases' first rate divided by the weights': equal. [CHM layer-params-145] has .02, twice as much."""

    momentum: float = Field(0.9, ge=0, lt=1)
    """[K12 §5]"""

    weight_decay: float = Field(5e-4, ge=0)
    """[K12 §5]"""

    bias_decay: float = Field(5e-4, ge=0)
    """[K12 §5] The rule makes no difference. [CHM layer-params-145] decays weights only."""

    schedule: Literal["plateau", "steps", "dexp"] = "plateau"
    """[K12 §5] `plateau` divides the rate when validation error stops improving; `steps` at set shares of the epochs; `dexp` in
    equal steps down to a set share of the first rate."""

    bias_schedule: Literal["same", "constant", "dexp"] = "same"
    """[K12 §5] The biases' rate falls with the weights'. [CHM layer-params-145] leaves it at .02 to the end."""

    drop_factor: float = Field(10.0, gt=1)
    """[K12 §5] What the rate is divided by."""

    num_drops: int = Field(3, ge=0)
    """[K12 §5] How often `plateau` divides the rate; instead of dividing it once more, training ends."""

    patience_epochs: int = Field(5, gt=0)
    """(ours) The paper divides the rate by eye; five flat epochs stand in for the eye."""

    drop_at: tuple[float, ...] = (25 / 91, 51 / 91, 79 / 91)
    """[CHM layer-params-145] Shares of the epochs after which `steps` divides the rate: 25, 51, 79 of 91.
    [CHM layer-params-145-2010] 23, 51, 78 of 93."""

    dexp_factor: float = Field(250.0, ge=1)
    """[CCN2 layer-params-imagenet-1gpu] `dexp`: the weights' first rate divided by their last."""

    dexp_steps: int = Field(4, gt=1)
    """[CCN2 layer-params-imagenet-1gpu] `dexp`: number of rates of the weights, each for an equal share of the epochs."""

    bias_dexp_factor: float = Field(10.0, ge=1)
    """[CCN2 layer-params-imagenet-1gpu] The same for the biases."""

    bias_dexp_steps: int = Field(2, gt=1)
    """[CCN2 layer-params-imagenet-1gpu] The same for the biases."""

    conv1_slowed_at: Share = None
    """[K12 §5] Never. [CHM layer-params-145] From epoch 67 of 91 on conv1 learns at a tenth of the rate."""

    conv1_frozen_at: Share = None
    """[K12 §5] Never. [CHM layer-params-145] From epoch 72 of 91 on conv1 is frozen."""

    mean: Literal["colour", "image"] = "colour"
    """[K12 §2] "The mean activity" is read as that of each channel. [CHM convdata_jpeg] has that of each pixel: the centre
    of the mean image, whatever the crop."""

    images_per_draw: int = Field(1, gt=0)
    """[K12 §4.1] Each image has its own crop and reflection. [CHM convdata_jpeg] 32 neighbours share theirs."""

    colour_noise: float = Field(0.1, ge=0)
    """[K12 §4.1] Standard deviation of the factors on the components."""

    colour_noise_along: Literal["eigenvalues", "deviations"] = "eigenvalues"
    """[K12 §4.1] What the factors multiply. [CHM convdata_jpeg] has the square roots of the eigenvalues."""

    shrink_with_noise: bool = False
    """[CHM convdata_jpeg] If there is noise, the image is divided by 1 + `colour_noise`; the paper does not say so."""

    colour_noise_until: Share = None
    """[K12 §4.1] Noise to the end. [CHM layer-params-145] Until epoch 67 of 91."""

    copied_rate: float = Field(0.1, gt=0)
    """[CHM layer-params-146-2012-2011] Share of the rate for layers copied from other weights."""

    copied_conv1_rate: float = Field(0.01, gt=0)
    """[CHM layer-params-146-2012-2011] The same for a copied conv1."""

    fresh_after_steps: int = Field(300, ge=0)
    """[CHM layer-params-146-2012-2011] When fine-tuning, steps that fc8 begins with at the rate of the copied layers."""

    fresh_until: Share = None
    """[CHM layer-params-146-2012-2011] When fine-tuning, from epoch 9 of 54 on fc8 learns at the rate of the copied
    layers."""

    precision: Precision = "fp32"
    """[K12 §5] at `fp32`. (ours) `tf32` lets NVIDIA GPUs round the factors of products to 10 bits, `bf16` rounds activations
    to 7; sums, weights and the update stay in fp32."""

    validate_every: int = Field(1, gt=0)
    """(ours) Epochs between measurements of the validation error; the last epoch is always measured."""
