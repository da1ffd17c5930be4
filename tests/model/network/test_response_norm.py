"""The fast response normalisation against the paper's formula in float64."""

import pytest
import torch

from model.network import response_norm
from model.network.response_norm import local_response_norm


def by_formula(x, size, alpha, k):
    """[K12 §3.3], channel by channel."""
    channels = x.shape[1]
    outputs = []
    for i in range(channels):
        low, high = max(0, i - size // 2), min(channels, i + size // 2 + 1)
        outputs.append(x[:, i] / (k + alpha * x[:, low:high].square().sum(dim=1)) ** 0.75)
    return torch.stack(outputs, dim=1)


@pytest.mark.parametrize(("channels", "side"), [(2, 5), (5, 4), (12, 13), (48, 7)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_output_and_gradient_are_those_of_the_formula(channels, side, layout):
    torch.manual_seed(0)
    x = (torch.randn(3, channels, side, side, dtype=torch.float64) * 30).contiguous(memory_format=layout).requires_grad_()
    upstream = torch.randn_like(x)
    found, expected = local_response_norm(x, 5, 1e-4, 2.0), by_formula(x, 5, 1e-4, 2.0)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    found_gradient = torch.autograd.grad(found, x, upstream)[0]
    torch.testing.assert_close(found_gradient, torch.autograd.grad(expected, x, upstream)[0], rtol=1e-10, atol=1e-12)


def test_towers_side_by_side_do_not_see_each_other():
    torch.manual_seed(0)
    x = (torch.randn(2, 12, 5, 5, dtype=torch.float64) * 30).requires_grad_()
    upstream = torch.randn_like(x)
    found = local_response_norm(x, 5, 1e-4, 2.0, towers=2)
    expected = torch.cat([by_formula(half, 5, 1e-4, 2.0) for half in x.chunk(2, dim=1)], dim=1)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    gradients = [torch.autograd.grad(y, x, upstream)[0] for y in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("autocast", [False, True])
def test_bfloat16_is_that_of_float32_but_for_rounding(autocast):
    torch.manual_seed(0)
    x = (torch.randn(2, 12, 5, 5) * 30).bfloat16().requires_grad_()
    upstream = torch.randn_like(x)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        found = local_response_norm(x, 5, 1e-4, 2.0)
    expected = by_formula(x.float(), 5, 1e-4, 2.0)
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, expected.bfloat16())
    gradients = [torch.autograd.grad(y, x, upstream.to(y.dtype))[0].float() for y in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=2e-2, atol=2e-3)


def test_chunks_do_not_show_in_the_result(monkeypatch):
    x = torch.randn(4, 6, 9, 9)
    whole = local_response_norm(x, 5, 1e-4, 2.0)
    monkeypatch.setattr(response_norm, "CHUNK_ELEMENTS", 60)
    torch.testing.assert_close(local_response_norm(x, 5, 1e-4, 2.0), whole, rtol=1e-6, atol=1e-7)


def test_it_is_torchs_layer_with_alpha_on_the_sum():
    x = torch.randn(2, 8, 5, 5) * 50
    theirs = torch.nn.LocalResponseNorm(5, alpha=5 * 1e-4, beta=0.75, k=2.0)(x)
    torch.testing.assert_close(local_response_norm(x, 5, 1e-4, 2.0), theirs, rtol=1e-5, atol=1e-5)


def test_its_input_is_left_as_it_was():
    x = torch.randn(2, 8, 5, 5)
    before = x.clone()
    local_response_norm(x, 5, 1e-4, 2.0)
    assert torch.equal(x, before)
