"""The shape and the first weights of the predictor."""

import math

import pytest
import torch
from torch import nn

from heareval.predictions.learners.dropout import DroppedReLU, dropped_relu_of_bits
from heareval.predictions.learners.network import (
    build_predictor,
    logits_in_training,
    predict_logits,
)
from heareval.predictions.protocol import Settings


def _build(hidden_layers, initialization="xavier_uniform", hidden_dim=512):
    settings = Settings(hidden_layers, 1e-3, initialization, hidden_dim=hidden_dim)
    return build_predictor(256, 20, settings, seed=3)


@pytest.mark.parametrize("hidden_layers", [0, 1, 2])
def test_layers(hidden_layers):
    block = [nn.Linear, nn.BatchNorm1d, DroppedReLU]
    kinds = [*block * hidden_layers, nn.Linear]
    assert all(isinstance(layer, kind) for layer, kind in zip(_build(hidden_layers), kinds, strict=True))


@pytest.mark.parametrize("initialization", ["xavier_uniform", "xavier_normal"])
@pytest.mark.parametrize("hidden_layers", [0, 1, 2])
def test_weights_have_the_gain_of_their_place(hidden_layers, initialization):
    linear = [layer for layer in _build(hidden_layers, initialization) if isinstance(layer, nn.Linear)]
    for place, layer in enumerate(linear):
        gain = 1.0 if place == 0 else math.sqrt(2.0)
        expected = gain * math.sqrt(2.0 / (layer.in_features + layer.out_features))
        assert layer.weight.std().item() == pytest.approx(expected, rel=0.05)
        uniform = layer.weight.abs().max().item() < 1.75 * expected
        assert uniform == (initialization == "xavier_uniform")
        assert layer.bias.abs().max().item() <= 1 / math.sqrt(layer.in_features)


def test_dropout_drops_a_tenth_and_scales_the_rest():
    layer = _build(1)[2]
    x = torch.ones(1000, 512)
    out = layer.train()(x)
    assert (out == 0).float().mean().item() == pytest.approx(0.1, abs=0.002)
    assert out.max().item() == pytest.approx(1 / 0.9)
    assert torch.equal(layer.eval()(x), x)
    assert torch.equal(layer.eval()(-x), torch.zeros_like(x))


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9999])
def test_dropout_of_any_share_and_shape(share):
    layer = DroppedReLU(share, torch.Generator().manual_seed(2)).train()
    x = torch.randn(37, 1001, generator=torch.Generator().manual_seed(0)).requires_grad_()
    out = layer(x)
    assert not torch.equal(out == 0, layer(x) == 0) or share == 0
    # Of what ReLU lets through.
    through = x > 0
    assert (out[through] == 0).float().mean().item() == pytest.approx(share, abs=0.01)
    kept = out != 0
    assert (kept <= through).all()
    torch.testing.assert_close(out[kept], x[kept] / (1 - share), rtol=1e-3, atol=1e-6)
    weights = torch.randn(37, 1001, generator=torch.Generator().manual_seed(1))
    (out * weights).sum().backward()
    torch.testing.assert_close(x.grad, weights * kept / (1 - share), rtol=1e-3, atol=1e-6)


def test_networks_have_chance_of_their_own():
    settings = Settings(2, 1e-3, "xavier_normal", hidden_dim=8)
    one, again, other = (build_predictor(4, 2, settings, seed=seed) for seed in (1, 1, 2))
    drawn = [[network[place].draw(5, 8) for place in (2, 5)] for network in (one, again, other)]
    assert all(torch.equal(a, b) for a, b in zip(drawn[0], drawn[1], strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(drawn[0], drawn[2], strict=True))
    assert not torch.equal(*drawn[0])


def test_nearly_all_may_be_dropped():
    layer = DroppedReLU(0.999999, torch.Generator().manual_seed(2)).train()
    assert (layer(torch.ones(100, 1000)) != 0).sum() < 20


def test_each_element_has_bits_of_its_own():
    drawn = DroppedReLU(0.3, torch.Generator().manual_seed(2)).draw(37, 1001)
    dropped = (drawn < -(2**15) + round(0.3 * 2**16)).float().flatten()[: 37 * 1000 // 4 * 4]
    # Four neighbours share a draw of 64 bits.
    lanes = dropped.view(-1, 4)
    assert lanes.mean(0).tolist() == pytest.approx([0.3] * 4, abs=0.02)
    assert torch.corrcoef(lanes.T).fill_diagonal_(0).abs().max() < 0.04


def test_dropped_relu_is_that_of_torch_where_nothing_is_dropped():
    x = torch.randn(20, 30, generator=torch.Generator().manual_seed(0), requires_grad=True)
    judge = x.detach().clone().requires_grad_()
    DroppedReLU(0.0, torch.Generator()).train()(x).square().sum().backward()
    judge.relu().square().sum().backward()
    assert torch.equal(x.grad, judge.grad)


@pytest.mark.parametrize("p", [0.0, 0.1, 0.9999])
def test_dropped_relu_of_bits_is_that_of_numbers(p):
    chance = torch.Generator().manual_seed(0)
    values = torch.tensor([0.0, -0.0, math.inf, -math.inf, 1e-40, -1e-40, 1.0, -1.0]).repeat(37, 1000)
    x = values.bfloat16()[:, torch.randperm(8000, generator=chance)].requires_grad_()
    judge = x.detach().float().requires_grad_()
    numbers = DroppedReLU(p, chance).draw(*x.shape)
    out = dropped_relu_of_bits(x, numbers, p)
    kept = numbers >= -(2**15) + round(p * 2**16)
    expected = torch.where(kept, judge.relu(), torch.zeros(()))
    assert torch.equal(out.float(), expected)
    weights = torch.randn(x.shape, generator=chance).bfloat16()
    for each, factor in ((out, weights), (expected, weights.float())):
        each.backward(factor)
    assert torch.equal(x.grad.float(), judge.grad)


@pytest.mark.parametrize("hidden_layers", [0, 1, 2])
@pytest.mark.parametrize("batches", ["one", "own"])
def test_a_stack_says_and_learns_what_each_network_does_alone(hidden_layers, batches):
    settings = Settings(hidden_layers, 1e-3, "xavier_normal", hidden_dim=32)
    alone, stack = (
        [build_predictor(16, 5, settings, seed=seed).train() for seed in range(3)] for _ in range(2)
    )
    chance = torch.Generator().manual_seed(0)
    xs = [torch.randn(50, 16, generator=chance) for _ in range(3)]
    xs = xs if batches == "own" else xs[:1] * 3
    weights = torch.randn(3, 50, 5, generator=chance)
    apart = torch.cat([logits_in_training([network], [x]) for network, x in zip(alone, xs, strict=True)])
    together = logits_in_training(stack, xs)
    torch.testing.assert_close(together, apart)
    for logits in (apart, together):
        (logits * weights).sum().backward()
    for one, other in zip(alone, stack, strict=True):
        for (name, a), b in zip(one.named_parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-4, msg=name)
        statistics = {name: value for name, value in one.named_buffers() if "running" in name}
        for name, value in statistics.items():
            torch.testing.assert_close(value, dict(other.named_buffers())[name], msg=name)


def test_prediction_in_chunks_is_prediction(monkeypatch):
    network, x = _build(2), torch.randn(50, 256, generator=torch.Generator().manual_seed(0))
    whole = predict_logits(network, x)
    monkeypatch.setattr("heareval.predictions.learners.network.CHUNK_ROWS", 7)
    torch.testing.assert_close(predict_logits(network, x), whole)
