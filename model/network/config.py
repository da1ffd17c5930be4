"""The architecture: every size and constant of the network, declared once with its source."""

from pydantic import BaseModel, ConfigDict, Field, model_validator

STORED_SIZE = 256
"""[K12 §2] Images are stored at 256 × 256 and cropped to 224 × 224."""


class Initial(BaseModel):
    """How weights and biases are initialised at full size."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    std: float = Field(0.01, gt=0)
    """[K12 §5] Standard deviation of the weights."""

    middle_std: float = Field(0.01, gt=0)
    """[K12 §5] The same in conv3 to conv6. [CHM layers-145] has .03."""

    bias: float = 1.0
    """[K12 §5] Biases of conv2, conv4, conv5, conv6, fc6 and fc7; those of the other layers start at 0."""

    last_bias: float = 0.0
    """[K12 §5] Biases of fc8. [CCN2 layer-params-imagenet-1gpu] has -7, which does not change a softmax."""


class NetworkConfig(BaseModel):
    """The two-tower AlexNet, at full size unless `width` or `crop` makes it smaller."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    num_classes: int = Field(1000, gt=1)
    """[K12 §3.5]"""

    crop: int = Field(224, ge=64)
    """[K12 §4.1] Side of the input in pixels. Below 64 the third pooling layer has no output."""

    width: float = Field(1.0, gt=0, le=1)
    """[K12 §3.5] at 1. (ours) Share of the kernels of each layer in a smaller network of the same topology."""

    sixth_conv: bool = False
    """[K12 §6] A sixth convolutional layer over the last pooling layer: the starred rows."""

    dropout: float = Field(0.5, ge=0, lt=1)
    """[K12 §4.2]"""

    lrn_size: int = Field(5, gt=0)
    """[K12 §3.3] n, the number of neighbouring kernels that are summed."""

    lrn_alpha: float = Field(1e-4, ge=0)
    """[K12 §3.3] α, the factor on the sum. [CHM layer-params-145] divides it by n."""

    lrn_k: float = Field(2.0, gt=0)
    """[K12 §3.3]"""

    relu_after_pool1: bool = False
    """[K12 §3.3] conv1 is rectified, normalised, then pooled. [CHM layers-145] normalises, pools, then rectifies."""

    spatial_norm: bool = False
    """[CHM layers-145] A second normalisation after that of conv2, over 5 × 5 neighbours in a map; not in the paper."""

    bottleneck: int | None = Field(None, gt=0)
    """[CHM layers-146-2011] Units per tower of a linear layer before fc8, for very many classes: 1024 for 10,184 and 21,841."""

    @model_validator(mode="after")
    def _every_layer_keeps_a_kernel(self) -> "NetworkConfig":
        if self.scaled(48) < 2:
            raise ValueError(f"width {self.width} leaves fewer than two of conv1's 48 kernels per tower; use 1/24 or more")
        return self

    def scaled(self, kernels: int) -> int:
        """Return how many of a layer's `kernels` at full size a tower has at this width."""
        return round(kernels * self.width)

    @property
    def narrow(self) -> int:
        """Units per tower that the last layer reads."""
        return self.scaled(2048 if self.bottleneck is None else self.bottleneck)

    @property
    def map_sides(self) -> tuple[int, int, int, int]:
        """Sides of the output maps of conv1 and of the three pooling layers: 55, 27, 13, 6 at full size."""
        sides = [(self.crop + 3 - 11) // 4 + 1]
        for _ in range(3):
            sides.append((sides[-1] - 3) // 2 + 1)
        return sides[0], sides[1], sides[2], sides[3]

    @property
    def pooled(self) -> int:
        """Side of the map after the last pooling layer: 6 at full size."""
        return self.map_sides[3]
