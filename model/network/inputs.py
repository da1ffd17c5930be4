"""From the bytes of the loader to the input of the network: subtract the mean and, in training, add colour noise.

Called by `model.training.loop` and `model.evaluation.predict` with the batches that the loaders yield.
"""

from functools import cache
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

Triple = tuple[float, float, float]


class Colours(BaseModel):
    """RGB statistics over every pixel of a training set, in 0…255. They are stored with the weights."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, arbitrary_types_allowed=True)

    mean: Triple
    """[K12 §2] Mean of each channel, subtracted from every pixel."""
    deviations: Triple
    """[K12 §4.1] Standard deviation along each principal component: the square root of the eigenvalue of the covariance."""
    components: tuple[Triple, Triple, Triple]
    """[K12 §4.1] The unit eigenvector of each deviation."""
    num_images: int = Field(gt=0)
    """(ours) Number of images that were measured."""
    mean_image: Tensor | None = Field(None, exclude=True)
    """[CHM convdata_jpeg] The centre of the mean image, float32 (crop, crop, 3), if it is subtracted instead of the mean
    colour. Not part of the JSON: a tensor of the weights file."""


def subtract_mean(images: Tensor, colours: Colours) -> Tensor:
    """Turn uint8 (N, H, W, 3) into float32 (N, 3, H, W), channels-last in memory, with zero mean. [K12 §2]"""
    num_images, height, width, _ = images.shape
    # Rows of W · 3 values instead of pixels of 3: a longer inner loop is faster.
    if colours.mean_image is None:
        rows = _constant(colours.mean, images.device).repeat(width)
    else:
        rows = colours.mean_image.to(images.device).view(height, width * 3)
    values = images.reshape(num_images, height, width * 3).to(torch.float32).sub_(rows)
    return values.view(images.shape).permute(0, 3, 1, 2)


def colour_shifts(colours: Colours, draws: Tensor, along: Literal["eigenvalues", "deviations"]) -> Tensor:
    """Return what to add to the colours of each image, (N, 3), from factors of the three components (N, 3). [K12 §4.1]

    The paper multiplies the eigenvalue, not its square root, for pixels in 0…1; for 0…255 that is deviation² ÷ 255.
    """
    components = _constant(colours.components, draws.device)  # (3 components, 3 colours)
    deviations = _constant(colours.deviations, draws.device)
    return (draws * (deviations.square() / 255 if along == "eigenvalues" else deviations)) @ components


@cache
def _constant(values: Triple | tuple[Triple, ...], device: torch.device) -> Tensor:
    """Return the values in float32 on the device. They are copied once: during a copy the host waits for the GPU."""
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=torch.float32).to(device)
