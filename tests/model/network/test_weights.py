"""A network saved, loaded, and partly copied."""

import pytest
import torch
from safetensors.torch import save_file

from base.errors import InputError
from model.network.alexnet import AlexNet
from model.network.config import NetworkConfig
from model.network.inputs import Colours
from model.network.weights import WeightsInfo, copy_all_but_last, copy_classes, load_weights, read_info, save_weights

CONFIG = NetworkConfig(num_classes=4, crop=64, width=1 / 8)
COLOURS = Colours(mean=(1, 2, 3), deviations=(4, 5, 6), components=((1, 0, 0), (0, 1, 0), (0, 0, 1)), num_images=9)
INFO = WeightsInfo(network=CONFIG, colours=COLOURS, wnids=["n1", "n2", "n3", "n4"])


def test_loaded_weights_give_the_same_output_and_say_how_to_use_them(tmp_path):
    network = AlexNet(CONFIG).initialise(5).eval()
    save_weights(network, INFO, tmp_path / "w.safetensors")
    loaded, info = load_weights(tmp_path / "w.safetensors")
    images = torch.randn(2, 3, 64, 64)
    assert torch.equal(loaded.eval()(images), network(images))
    assert info == INFO


def test_the_same_weights_make_the_same_bytes(tmp_path):
    for name in ("first", "second"):
        save_weights(AlexNet(CONFIG).initialise(5), INFO, tmp_path / name)
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()
    tensors = {name: value.contiguous() for name, value in AlexNet(CONFIG).initialise(5).state_dict().items()}
    save_file(tensors, tmp_path / "third", metadata={"alexnet": INFO.model_dump_json()})
    assert (tmp_path / "first").read_bytes() == (tmp_path / "third").read_bytes()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no weights file .*; expected the weights.safetensors of a finished run"),
        (b"", "is not a weights file written by this project"),
        (b"not weights at all", "is not a weights file written by this project"),
    ],
)
def test_other_files_are_refused_as_weights(tmp_path, content, message):
    path = tmp_path / "w.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_info(path)


def test_weights_of_another_program_are_refused(tmp_path):
    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="is not a weights file written by this project"):
        read_info(tmp_path / "other.safetensors")


def test_a_weights_file_cut_short_is_refused(tmp_path):
    save_weights(AlexNet(CONFIG), INFO, tmp_path / "w.safetensors")
    whole = (tmp_path / "w.safetensors").read_bytes()
    (tmp_path / "w.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="is not a weights file written by this project"):
        load_weights(tmp_path / "w.safetensors")


def test_fine_tuning_copies_every_layer_but_the_last():
    source = AlexNet(CONFIG.model_copy(update={"num_classes": 9})).initialise(1)
    target = AlexNet(CONFIG).initialise(2)
    fresh = target.fc8.weight.clone()
    copy_all_but_last(source, target)
    assert torch.equal(target.fc8.weight, fresh)
    for name, value in target.state_dict().items():
        assert name.startswith("fc8.") or torch.equal(value, source.state_dict()[name]), name


def test_fine_tuning_drops_a_bottleneck():
    source = AlexNet(CONFIG.model_copy(update={"num_classes": 9, "bottleneck": 64})).initialise(1)
    target = AlexNet(CONFIG).initialise(2)
    fresh = target.fc8.weight.clone()
    copy_all_but_last(source, target)
    assert torch.equal(target.fc8.weight, fresh)
    assert torch.equal(target.fc7.b.weight, source.fc7.b.weight)


def test_rows_of_the_last_layer_are_copied_by_the_class_they_stand_for():
    source = AlexNet(CONFIG.model_copy(update={"num_classes": 3})).initialise(1)
    target = AlexNet(CONFIG.model_copy(update={"num_classes": 4})).initialise(2)
    fresh = target.fc8.weight.detach().clone()
    with torch.no_grad():
        source.fc8.bias.copy_(torch.tensor([1.0, 2.0, 3.0]))
        target.fc8.bias.zero_()
    copy_classes(source, ["n1", "n2", "gone"], target, ["n2", "new", "n1", "newer"])
    assert torch.equal(target.fc8.weight[[0, 2]], source.fc8.weight[[1, 0]])
    assert torch.equal(target.fc8.weight[[1, 3]], fresh[[1, 3]])
    assert target.fc8.bias.tolist() == [2, 0, 1, 0]
    copy_classes(source, ["a", "b", "c"], target, ["n2", "new", "n1", "newer"])
    assert target.fc8.bias.tolist() == [2, 0, 1, 0]


def test_a_mean_image_travels_with_the_weights(tmp_path):
    image = torch.rand(64, 64, 3) * 255
    info = INFO.model_copy(update={"colours": COLOURS.model_copy(update={"mean_image": image})})
    save_weights(AlexNet(CONFIG).initialise(5), info, tmp_path / "w.safetensors")
    _, loaded = load_weights(tmp_path / "w.safetensors")
    assert torch.equal(loaded.colours.mean_image, image)


@pytest.mark.parametrize("change", [{"sixth_conv": True}, {"width": 1 / 4}, {"crop": 96}])
def test_fine_tuning_from_another_topology_is_refused(change):
    source = AlexNet(CONFIG.model_copy(update=change))
    with pytest.raises(InputError, match="they must differ in their classes only"):
        copy_all_but_last(source, AlexNet(CONFIG))
