"""Auto-encoders: what they learn, and that a killed training ends with the same bytes."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from base.errors import InputError
from model.retrieval.autoencoder import AutoEncoder, CodeConfig, load_autoencoder, save_autoencoder, train_autoencoder
from model.retrieval.encoding import dead_bits, encode, reconstruction_error
from model.retrieval.hamming import unpack

CONFIG = CodeConfig(bits=12, hidden=(32, 16), epochs=8, batch_size=16)


def clusters(num, dim=20, dtype=np.float32):
    """Vectors near one of eight centres."""
    generator = np.random.default_rng(0)
    centres = generator.random((8, dim)) * 200
    return (centres[np.arange(num) % 8] + generator.random((num, dim)) * 10).astype(dtype)


def content(network, directory):
    save_autoencoder(network, directory / "network.safetensors")
    return (directory / "network.safetensors").read_bytes()


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.uint8])
def test_the_code_of_a_vector_tells_its_cluster(store, dtype):
    values = clusters(400, dtype=dtype)
    network = train_autoencoder(
        store(values), CodeConfig(bits=12, hidden=(32, 16), epochs=20, batch_size=16, learning_rate=3e-3)
    )
    codes = unpack(encode(network, values), 12)
    differing = (codes[:64, None] != codes[None, :64]).sum(axis=2)
    same = (np.arange(64)[:, None] - np.arange(64)) % 8 == 0
    assert differing[same].mean() < differing[~same].mean() / 3
    assert reconstruction_error(network, store(values)) < 0.3


def test_inputs_are_centred_and_divided_by_one_deviation(store):
    values = clusters(100)
    network = train_autoencoder(store(values), CONFIG)
    inputs = network.normalise(torch.from_numpy(values)).numpy()
    np.testing.assert_allclose(inputs.mean(axis=0), 0, atol=1e-5)
    assert np.square(inputs).mean() == pytest.approx(1, rel=1e-5)
    np.testing.assert_allclose(network.mean.numpy(), values.mean(axis=0), rtol=1e-5)


def test_the_gradient_is_that_of_the_sigmoid_not_of_the_rounding():
    network = AutoEncoder(6, CodeConfig(bits=4, hidden=(5,)))
    values = torch.randn(3, 6, generator=torch.Generator().manual_seed(0))
    inputs, outputs = network(values)
    outputs.sum().backward()
    found = network.encoder[-1].bias.grad
    logits = network.encoder(inputs).detach().requires_grad_()
    soft = 2 * torch.sigmoid(logits) - 1
    hard = (torch.where(logits > 0, 1.0, -1.0) - soft).detach() + soft
    (expected,) = torch.autograd.grad(network.decoder(hard).sum(), logits)
    torch.testing.assert_close(found, expected.sum(dim=0))


def test_neither_shards_nor_saving_change_a_byte(store, tmp_path):
    values = clusters(90)
    whole = content(train_autoencoder(store(values), CONFIG), tmp_path)
    parts = store(values, [40, 1, 49])
    assert content(train_autoencoder(parts, CONFIG, tmp_path / "state", save_seconds=0), tmp_path) == whole
    assert content(train_autoencoder(parts, CONFIG.model_copy(update={"seed": 1})), tmp_path) != whole


KILLED = """
import os, signal, sys
from pathlib import Path
import torch
from model.retrieval import autoencoder as module
from model.retrieval.vectors import open_vectors

torch.set_num_threads(1)
saved = 0
save = module._save_state
def save_and_die(*arguments):
    global saved
    save(*arguments)
    saved += 1
    if saved == 17:
        os.kill(os.getpid(), signal.SIGKILL)
module._save_state = save_and_die
config = module.CodeConfig.model_validate_json(sys.argv[1])
module.train_autoencoder(open_vectors([Path(sys.argv[2])]), config, Path(sys.argv[3]), save_seconds=0)
"""


def test_a_killed_training_ends_with_the_same_bytes(store, tmp_path):
    vectors, state = store(clusters(90)), tmp_path / "state"
    command = [sys.executable, "-c", KILLED, CONFIG.model_dump_json(), str(vectors.parts[0].path), str(state)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run(command, env=environment, check=False)
    assert done.returncode == -signal.SIGKILL
    assert torch.load(state, weights_only=True)["step"] == 17
    resumed = content(train_autoencoder(vectors, CONFIG, state), tmp_path)
    assert resumed == content(train_autoencoder(vectors, CONFIG), tmp_path)


def test_a_saved_network_gives_the_same_codes(store, tmp_path):
    values = clusters(90)
    network = train_autoencoder(store(values), CONFIG)
    save_autoencoder(network, tmp_path / "network")
    loaded = load_autoencoder(tmp_path / "network")
    assert loaded.config == CONFIG
    assert np.array_equal(encode(loaded, values), encode(network, values))


def test_what_cannot_be_trained_or_read_is_an_error(store, tmp_path):
    with pytest.raises(InputError, match="all 20 vectors are the same"):
        train_autoencoder(store(np.ones((20, 4), np.float32)), CONFIG)
    (tmp_path / "state").write_bytes(b"damaged")
    with pytest.raises(InputError, match="cannot resume from .*state"):
        train_autoencoder(store(clusters(20)), CONFIG, tmp_path / "state")
    with pytest.raises(InputError, match="no auto-encoder"):
        load_autoencoder(tmp_path / "missing")
    with pytest.raises(InputError, match="is not an auto-encoder"):
        load_autoencoder(tmp_path / "state")


def test_a_diverging_training_is_an_error(store):
    config = CONFIG.model_copy(update={"learning_rate": 1e30})
    with pytest.raises(InputError, match="the loss is .* use a smaller learning rate"):
        train_autoencoder(store(clusters(90)), config)


def test_bits_that_never_change_are_dead():
    assert dead_bits(np.array([[1], [3], [1]], np.uint8), 4) == 3
