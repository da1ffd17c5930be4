"""The ONNX file in onnxruntime: the same logits for any number of images."""

import onnx
import pytest
import torch

from model.export import alexnet as plain
from model.export.onnx_file import open_onnx, write_onnx
from model.export.plain import plain_sizes, plain_state
from model.network.alexnet import AlexNet
from model.network.config import NetworkConfig
from model.network.inputs import Colours
from tasks.code import ROOT

COLOURS = Colours(mean=(120, 110, 100), deviations=(1, 1, 1), components=((1, 0, 0), (0, 1, 0), (0, 0, 1)), num_images=1)
VARIANTS = {"sixth_conv": True, "bottleneck": 256, "relu_after_pool1": True, "spatial_norm": True}


@pytest.fixture(scope="module")
def copy():
    config = NetworkConfig(num_classes=7, crop=64, width=1 / 8, lrn_alpha=1e-2, **VARIANTS)
    network = plain.AlexNet(**plain_sizes(config, COLOURS))
    network.load_state_dict(plain_state(AlexNet(config).initialise(0), COLOURS))
    return network.eval()


@pytest.fixture(scope="module")
def file(copy, tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    write_onnx(copy, 64, path)
    return path


@pytest.mark.parametrize("num_images", [1, 2, 7])
def test_onnxruntime_gives_the_same_logits(copy, file, num_images):
    pixels = torch.randint(0, 256, (num_images, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        torch.testing.assert_close(open_onnx(file)(pixels), copy(pixels), rtol=0, atol=2e-6)


def test_the_file_is_valid_and_names_no_path_of_this_machine(file):
    onnx.checker.check_model(onnx.load(file), full_check=True)
    assert str(ROOT).encode() not in file.read_bytes()
