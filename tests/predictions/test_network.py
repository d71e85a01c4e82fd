"""The shape and the first weights of the predictor."""

import math

import pytest
import torch
from torch import nn

from heareval.predictions.network import Dropout, build_predictor, predict_logits
from heareval.predictions.protocol import Settings


def _build(hidden_layers, initialization="xavier_uniform", hidden_dim=512):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return build_predictor(256, 20, Settings(hidden_layers, 1e-3, initialization, hidden_dim=hidden_dim))


@pytest.mark.parametrize("hidden_layers", [0, 1, 2])
def test_layers(hidden_layers):
    block = [nn.Linear, nn.BatchNorm1d, nn.Dropout, nn.ReLU]
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
    dropout = _build(1)[2]
    x = torch.ones(1000, 512)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        out = dropout.train()(x)
    assert (out == 0).float().mean().item() == pytest.approx(0.1, abs=0.002)
    assert out.max().item() == pytest.approx(1 / 0.9)
    assert torch.equal(dropout.eval()(x), x)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9999])
def test_dropout_of_any_share_and_shape(share):
    dropout, x = Dropout(share).train(), torch.randn(37, 1001, requires_grad=True)
    with torch.random.fork_rng():
        torch.manual_seed(2)
        out = dropout(x)
        assert not torch.equal(out == 0, dropout(x) == 0) or share == 0
    assert (out == 0).float().mean().item() == pytest.approx(share, abs=0.01)
    kept = out != 0
    torch.testing.assert_close(out[kept], x[kept] / (1 - share), rtol=1e-3, atol=1e-6)
    out.sum().backward()
    torch.testing.assert_close(x.grad, kept / (1 - share), rtol=1e-3, atol=1e-6)
    # Neighbours share a draw of 64 bits, of which each takes its own.
    dropped = ~kept.flatten().view(-1, 1)[: 37 * 1000 // 4 * 4].view(-1, 4)
    assert dropped.float().mean(0).tolist() == pytest.approx([share] * 4, abs=0.02)


def test_prediction_in_chunks_is_prediction(monkeypatch):
    network, x = _build(2), torch.randn(50, 256, generator=torch.Generator().manual_seed(0))
    whole = predict_logits(network, x)
    monkeypatch.setattr("heareval.predictions.network.CHUNK_ROWS", 7)
    torch.testing.assert_close(predict_logits(network, x), whole)
