"""The plain network as an ONNX file, and as onnxruntime runs it.

Called by `tasks.workers.export`; needs requirements-onnx.txt, which the base install lacks.
"""

import logging
import warnings
from collections.abc import Callable
from pathlib import Path

import onnx_ir
import onnxruntime
import torch
from onnx_ir.passes.common import ClearMetadataAndDocStringPass
from torch import Tensor

from model.export.alexnet import AlexNet


def write_onnx(network: AlexNet, crop: int, path: Path) -> None:
    """Write the network: `pixels`, float32 RGB 0…255 (N, 3, crop, crop), to `logits` (N, num_classes), for any N."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it warns that torchvision is not installed
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch's exporter uses what torch has deprecated
        program = torch.onnx.export(
            network.eval(),
            (torch.zeros(2, 3, crop, crop),),
            input_names=["pixels"],
            output_names=["logits"],
            dynamic_shapes={"pixels": {0: "N"}},
            dynamo=True,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch's exporter returned no program")
    ClearMetadataAndDocStringPass()(program.model)  # source lines with paths of this machine
    onnx_ir.save(program.model, path)


def open_onnx(path: Path) -> Callable[[Tensor], Tensor]:
    """Return the network of a file, from pixels to logits, on the CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda pixels: torch.from_numpy(session.run(None, {"pixels": pixels.float().numpy()})[0])
