"""AlexNet in plain PyTorch: `python alexnet.py PHOTOGRAPH ...` prints the five most probable classes of each photograph.

The network and everything that happens to a photograph before it. config.json and model.safetensors, beside this file, hold the
sizes, the classes and the weights. It needs torch; reading photographs also needs Pillow. README.md says more.
"""

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

HERE = Path(__file__).parent
CONFIG, WEIGHTS = "config.json", "model.safetensors"


class AlexNet(nn.Module):
    """Logits (N, num_classes) from RGB pixels 0…255 (N, 3, crop, crop), in bytes or floats. It subtracts the mean itself.

    The paper's two towers are the two groups of conv2, conv4 and conv5; conv1, conv3 and all later layers read everything.
    """

    mean: Tensor

    def __init__(
        self,
        num_classes: int,
        crop: int,
        channels: list[int],
        units: int,
        sixth_conv: bool,
        bottleneck: int | None,
        dropout: float,
        lrn_size: int,
        lrn_alpha: float,
        lrn_k: float,
        relu_after_pool1: bool,
        spatial_norm: bool,
        mean_image: bool,
    ) -> None:
        super().__init__()
        self.lrn = lrn_size, lrn_alpha, lrn_k
        self.relu_after_pool1, self.spatial_norm = relu_after_pool1, spatial_norm
        side = (crop + 3 - 11) // 4 + 1
        for _ in range(3):
            side = (side - 3) // 2 + 1  # 55, 27, 13, 6 for a crop of 224
        self.register_buffer("mean", torch.zeros(3, crop, crop) if mean_image else torch.zeros(3, 1, 1))
        c1, c2, c3, c4, c5 = channels
        self.conv1 = nn.Conv2d(3, c1, 11, stride=4)
        self.conv2 = nn.Conv2d(c1, c2, 5, padding=2, groups=2)
        self.conv3 = nn.Conv2d(c2, c3, 3, padding=1)
        self.conv4 = nn.Conv2d(c3, c4, 3, padding=1, groups=2)
        self.conv5 = nn.Conv2d(c4, c5, 3, padding=1, groups=2)
        self.conv6 = nn.Conv2d(c5, c5, 3, padding=1) if sixth_conv else None
        self.fc6 = nn.Linear(c5 * side**2, units)
        self.fc7 = nn.Linear(units, units)
        self.bottleneck = nn.Linear(units, bottleneck) if bottleneck else None
        self.fc8 = nn.Linear(bottleneck or units, num_classes)
        self.dropout = nn.Dropout(dropout)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the logits. Shapes are those of the paper's network."""
        x = F.pad(pixels - self.mean, (0, 3, 0, 3))  # conv1's last window runs 3 px past the edge
        x = self.conv1(x)  # (N, 96, 55, 55)
        if not self.relu_after_pool1:
            x = F.relu(x)
        x = pool(self.normalise(x))  # (N, 96, 27, 27)
        if self.relu_after_pool1:
            x = F.relu(x)
        x = self.normalise(F.relu(self.conv2(x)))  # (N, 256, 27, 27)
        if self.spatial_norm:
            x = x * (1 + 1e-3 * F.avg_pool2d(x * x, 5, stride=1, padding=2)).pow(-0.75)
        x = F.relu(self.conv3(pool(x)))  # (N, 384, 13, 13)
        x = F.relu(self.conv4(x))  # (N, 384, 13, 13)
        x = pool(F.relu(self.conv5(x)))  # (N, 256, 6, 6)
        if self.conv6 is not None:
            x = F.relu(self.conv6(x))  # (N, 256, 6, 6)
        x = self.dropout(F.relu(self.fc6(x.flatten(1))))  # (N, 4096)
        x = self.dropout(F.relu(self.fc7(x)))  # (N, 4096)
        if self.bottleneck is not None:
            x = self.bottleneck(x)
        logits: Tensor = self.fc8(x)
        return logits

    def normalise(self, x: Tensor) -> Tensor:
        """Return x / (k + alpha · Σ x²)^¾, the sum over neighbouring channels of the same tower.

        torch divides alpha by the size of the window; the factor `size` undoes that. A window never crosses from one tower to
        the other, so each tower is an image of its own here.
        """
        size, alpha, k = self.lrn
        num, channels, height, width = x.shape
        towers = x.reshape(num * 2, channels // 2, height, width)
        return F.local_response_norm(towers, size, alpha * size, 0.75, k).reshape(num, channels, height, width)


def pool(x: Tensor) -> Tensor:
    """Pool with overlap: windows of 3 × 3, 2 apart."""
    return F.max_pool2d(x, 3, 2)


def load(folder: Path = HERE) -> AlexNet:
    """Return the network of a folder, ready to classify."""
    network = AlexNet(**read_config(folder)["network"])
    network.load_state_dict(read_safetensors(folder / WEIGHTS))
    return network.eval()


def read_config(folder: Path = HERE) -> dict:  # type: ignore[type-arg]  # JSON
    """Return the network's sizes, the side of stored images, and the WNID and the words of each output."""
    return json.loads((folder / CONFIG).read_text(encoding="utf-8"))  # type: ignore[no-any-return]  # JSON


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file of 32-bit floats, as `safetensors.torch.load_file` does."""
    data = bytearray(path.read_bytes())
    start = 8 + int.from_bytes(data[:8], "little")  # the length of a JSON header, the header, the values
    tensors = {}
    for name, entry in json.loads(data[8:start]).items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            values = torch.frombuffer(data, dtype=torch.float32, count=(end - begin) // 4, offset=start + begin)
            tensors[name] = values.view(entry["shape"])
    return tensors


def classify(network: AlexNet, photographs: list[str], folder: Path = HERE) -> Tensor:
    """Return the probabilities (N, num_classes) of image files: the mean over ten views of each."""
    config = read_config(folder)
    crop, side = config["network"]["crop"], config["stored_side"]
    with torch.inference_mode():
        return torch.stack([average(network, ten_views(read_photograph(path, side), crop)) for path in photographs])


def average(network: Callable[[Tensor], Tensor], views: Tensor) -> Tensor:
    """Return the mean probabilities (num_classes,) of the views (V, 3, crop, crop) of one image."""
    return network(views).softmax(dim=1).mean(dim=0)


def ten_views(pixels: Tensor, crop: int) -> Tensor:
    """Return the four corners and the centre of an image (3, S, S), and their reflections: (10, 3, crop, crop)."""
    last = pixels.shape[1] - crop
    places = ((0, 0), (0, last), (last, 0), (last, last), ((last + 1) // 2, (last + 1) // 2))
    views = torch.stack([pixels[:, top : top + crop, left : left + crop] for top, left in places])
    return torch.cat((views, views.flip(3)))


def read_photograph(path: str, side: int) -> Tensor:
    """Return an image file as the training images were stored: RGB bytes (3, side, side), once compressed as JPEG.

    The rotation in EXIF is ignored.
    """
    from PIL import Image

    with Image.open(path) as file:
        image = file.convert("RGB")
    pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).view(image.height, image.width, 3)
    stored = square(pixels.permute(2, 0, 1), side).permute(1, 2, 0)
    jpeg = io.BytesIO()
    Image.frombytes("RGB", (side, side), bytes(stored.flatten().tolist())).save(jpeg, "JPEG", quality=95, subsampling="4:2:0")
    with Image.open(jpeg) as file:
        return torch.frombuffer(bytearray(file.tobytes()), dtype=torch.uint8).view(side, side, 3).permute(2, 0, 1)


def square(pixels: Tensor, side: int) -> Tensor:
    """Return the centre (3, side, side) of an image (3, H, W) whose shorter side was scaled to `side`.

    Scaled down, a pixel is the mean of the area that it covers; scaled up, it is interpolated by cubics.
    """
    height, width = pixels.shape[1:]
    shorter = min(height, width)
    new_height, new_width = round(height * side / shorter), round(width * side / shorter)
    top, left = (new_height - side) // 2, (new_width - side) // 2
    if shorter > side:
        scaled = areas(height, new_height)[top : top + side] @ pixels.float() @ areas(width, new_width)[left : left + side].T
    else:
        scaled = F.interpolate(pixels[None].float(), (new_height, new_width), mode="bicubic", align_corners=False)[0]
        scaled = scaled[:, top : top + side, left : left + side]
    return (scaled + 0.5).floor().clamp(0, 255).to(torch.uint8)


def areas(old: int, new: int) -> Tensor:
    """Return (new, old): the share of each old pixel in each new one."""
    scale = old / new
    start = torch.arange(new, dtype=torch.float64)[:, None] * scale
    pixel = torch.arange(old, dtype=torch.float64)
    covered = torch.minimum(start + scale, pixel + 1) - torch.maximum(start, pixel)
    return (covered.clamp(min=0) / scale).float()


def main(photographs: list[str]) -> None:
    """Print five classes of each photograph, the most probable first."""
    config = read_config()
    for path, probs in zip(photographs, classify(load(), photographs), strict=True):
        print(path)
        for probability, index in zip(*probs.topk(min(5, len(probs))), strict=True):
            print(f"  {probability:6.4f}  {config['wnids'][index]}  {config['words'][index]}")


if __name__ == "__main__":
    main(sys.argv[1:])
