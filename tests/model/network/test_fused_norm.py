"""The normalisation for GPUs, on the CPU: the results of the form for CPUs, compiled once for all batches, or not at all."""

import pytest
import torch

from model.network import fused_norm, response_norm
from model.network.fused_norm import Compiled
from model.network.response_norm import local_response_norm

ALPHA, K = 1e-4, 2.0

pytestmark = pytest.mark.filterwarnings("ignore:.*script_method:DeprecationWarning")  # of torch's own compiler, on import


@pytest.fixture
def on_gpu(monkeypatch):
    """Take the path of a GPU, with nothing compiled yet."""
    monkeypatch.setattr(response_norm, "_fits_gpu", lambda rows: len(rows) > 1)
    for name, function in (("_normalised", fused_norm.normalised), ("_gradient", fused_norm.gradient)):
        monkeypatch.setattr(response_norm, f"{name}_on_gpu", Compiled(function, getattr(response_norm, name)))
    monkeypatch.setattr(Compiled, "usable", True)


def output_and_gradient(x, upstream, towers):
    x = x.clone().requires_grad_()
    y = local_response_norm(x, 5, ALPHA, K, towers)
    return y.detach(), torch.autograd.grad(y, x, upstream)[0]


@pytest.mark.parametrize("channels", [2, 5, 48])
@pytest.mark.parametrize("size", [1, 3, 4, 5])
def test_plain_operations_give_what_chunks_give(channels, size):
    torch.manual_seed(0)
    rows, upstream = (torch.randn(70, channels, dtype=torch.float64) * 30 for _ in range(2))
    plain, chunks = fused_norm.normalised(rows, size, ALPHA, K), response_norm._normalised(rows, size, ALPHA, K)
    torch.testing.assert_close(plain, chunks, rtol=1e-12, atol=1e-12)
    gradients = [form(rows, upstream, plain[1], size, ALPHA) for form in (fused_norm.gradient, response_norm._gradient)]
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-12)


def test_one_compiled_form_serves_every_batch_and_gives_what_the_cpus_form_gives(on_gpu, monkeypatch):
    from torch._dynamo.utils import counters

    # Everything but the last step: to translate the kernels to C++ takes a compiler twenty seconds.
    compile_ = torch.compile
    monkeypatch.setattr(torch, "compile", lambda function, options, **rest: compile_(function, backend="aot_eager", **rest))
    torch.manual_seed(0)
    counters.clear()
    for num_images in (6, 2, 1):
        x = (torch.randn(num_images, 12, 7, 7) * 30).contiguous(memory_format=torch.channels_last)
        upstream = torch.randn_like(x)
        found = output_and_gradient(x, upstream, towers=2)
        with monkeypatch.context() as patch:
            patch.setattr(response_norm, "_fits_gpu", lambda rows: False)
            expected = output_and_gradient(x, upstream, towers=2)
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    assert Compiled.usable
    assert counters["stats"]["unique_graphs"] == 2, "output and gradient are compiled once each"


def test_without_a_compiler_one_sentence_says_so_and_the_results_stay(on_gpu, monkeypatch, caplog):
    import torch._inductor.config

    monkeypatch.setattr(torch._inductor.config.cpp, "cxx", ("no-such-compiler",))
    monkeypatch.setattr(torch._inductor.config, "force_disable_caches", True)
    x = torch.randn(2, 8, 5, 5) * 30
    found = output_and_gradient(x, x, towers=1)
    assert [record.getMessage().partition(" (")[0] for record in caplog.records if record.name == fused_norm.__name__] == [
        "response normalisation is not compiled and takes several times as long"
    ]
    monkeypatch.setattr(response_norm, "_fits_gpu", lambda rows: False)
    torch.testing.assert_close(found, output_and_gradient(x, x, towers=1), rtol=0, atol=0)


def test_an_error_that_is_not_the_compilers_is_raised(on_gpu):
    with pytest.raises(RuntimeError, match="must match"):
        response_norm._gradient_on_gpu(torch.ones(4, 3), torch.ones(4, 2), torch.ones(4, 3), 5, ALPHA)
    assert Compiled.usable
