"""What the card of an exported network says besides its error rates: how to use it, what is in the folder, how it was made.

Called by `tasks.export`, with what `tasks.workers.export` wrote.
"""

from collections.abc import Mapping
from typing import Any

from model.export.parity import TOLERANCE, Parity

USE = """
This folder is complete. `alexnet.py` needs PyTorch and, to read photographs, Pillow. It prints the five most probable classes:

```
python alexnet.py photograph.jpg
```

From Python, in this folder:

```python
from alexnet import classify, load, read_config

config = read_config()
for probs in classify(load(), ["photograph.jpg"]):
    for probability, index in zip(*probs.topk({best})):
        print(f"{{probability:.4f}}  {{config['wnids'][index]}}  {{config['words'][index]}}")
```

| file | holds |
|---|---|
| `alexnet.py` | the network and everything that happens to a photograph before it |
| `config.json` | the sizes, the side of stored images, the WNID and the words of each of the {num_classes:,} outputs |
| `model.safetensors` | the parameters (`state_dict`) and the mean of the training images |
"""

ONNX_FILE = """| `model.onnx` | the same network for other programs: float32 `pixels` (N, 3, {crop}, {crop}) to `logits` |
"""

PREPROCESSING = """
1. The photograph is read as 8-bit RGB. The rotation in EXIF is ignored.
2. It is scaled until its shorter side is {side} pixels: by areas down, by cubics up. The centre of {side} × {side} is kept and
   compressed as JPEG once (quality 95, 4:2:0), as the training images were.
3. Views of {crop} × {crop} are cut: the four corners and the centre, then their reflections. For one view, take the centre.
4. The network takes RGB values of 0 to 255, channels first. It subtracts {mean} of the training images itself, and divides by
   nothing.
5. The probabilities (softmax) of the views are averaged, not the logits.
"""

DIFFERENCES = """
torchvision's `alexnet` is the network of a later paper (Krizhevsky 2014, "One weird trick"). This one is that of Krizhevsky,
Sutskever and Hinton (2012). Weights of one do not fit the other:

| | here | torchvision's `alexnet` |
|---|---|---|
| kernels of the convolutions | {kernels} | 64, 192, 384, 256, 256 |
| two groups | conv2, conv4, conv5 | none |
| local response normalisation | after conv1 and conv2, within each half of the channels | none |
| input | 0 to 255 minus the mean | 0 to 1, minus a mean, divided by a deviation |

torch's `local_response_norm` divides alpha by the size of its window, and the paper does not: `alexnet.py` multiplies alpha by
it. In testing the paper multiplies the outputs before dropout by {keep:g}, and torch does not: that factor is in the weights of
the layers after dropout.
"""

PARITY = """
Each copy was compared with the network that it was made from, on {num_images:,} stored images of {images}, ten views each. If a
probability differed by more than {tolerance:g}, nothing was exported.

| copy | largest difference of a probability | same five classes in the same order |
|---|---|---|
{rows}

For a photograph that `alexnet.py` reads itself, probabilities differ by more: Pillow compresses with libjpeg's accurate DCT,
and the training images were compressed with its fast one. Pixels differ by about one level on average.
"""


def sections(
    config: Mapping[str, Any], parity: Mapping[str, Parity], images: str, made: Mapping[str, object]
) -> dict[str, str]:
    """Return the sections of the card by heading.

    `config` and `parity` are what config.json and parity.json hold; `images` names the set that the copies were compared on;
    `made` says how the network was made, by the names of facts.
    """
    network = config["network"]
    values = {
        "best": min(5, network["num_classes"]),
        "num_classes": network["num_classes"],
        "crop": network["crop"],
        "side": config["stored_side"],
        "mean": "the mean image" if network["mean_image"] else "the mean colour",
        "kernels": ", ".join(map(str, network["channels"] + network["channels"][-1:] * network["sixth_conv"])),
        "keep": 1 - network["dropout"],
    }
    rows = [
        f"| `{name}` | {copy.largest_difference:.1e} | {copy.same_top5:,} of {copy.num_images:,} |"
        for name, copy in parity.items()
    ]
    onnx = ONNX_FILE.format(**values) if len(parity) > 1 else ""
    return {
        "Use": USE.format(**values) + onnx,
        "Preprocessing": PREPROCESSING.format(**values),
        "Training": "\n".join(["| | |", "|---|---|", *(f"| {name} | {fact} |" for name, fact in made.items())]),
        "Not torchvision's alexnet": DIFFERENCES.format(**values),
        "Parity": PARITY.format(
            num_images=next(iter(parity.values())).num_images, images=images, tolerance=TOLERANCE, rows="\n".join(rows)
        ),
    }
