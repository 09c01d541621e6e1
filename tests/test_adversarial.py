"""Wasserstein losses: against autograd, closed forms, and at the points where they could break."""

import numpy as np
import pytest
import torch
from torch import nn

from genclust.adversarial import average, clip_weights, gradient_penalty, input_gradient, scores, wasserstein
from genclust.networks import MLP, ReplicaMLP


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def critic(sizes=(3, 16, 8, 1), seed=0):
    net = MLP(sizes, generator(seed))
    for layer in net.layers:
        layer.bias.data.normal_(0, 0.3, generator=generator(seed + 1))
    return net


def rows(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed))


class Opaque(nn.Module):
    """The same network where only autograd can find its gradient."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x)


def test_estimate_is_a_difference_of_means():
    real, fake, weights = rows(2, 5), rows(2, 4, seed=1), torch.tensor([0.1, 0.2, 0.3, 0.4])
    assert torch.allclose(wasserstein(real, fake), real.mean(1) - fake.mean(1))
    assert torch.allclose(wasserstein(real, fake, weights), real.mean(1) - fake @ weights)
    assert torch.allclose(average(fake, torch.full((4,), 0.25)), average(fake))


def test_scores_are_the_critics_output():
    net, x = critic(), rows(6, 3)
    assert torch.allclose(scores(net, x), net(x)[:, 0])
    with torch.autocast("cpu", torch.bfloat16):
        low = scores(net, x)
    assert low.dtype == torch.float32 and torch.allclose(low, net(x)[:, 0], atol=0.05)


@pytest.mark.parametrize("sizes", [(3, 16, 8, 1), (3, 16, 1), (3, 1)])
def test_written_out_gradient_is_autograds_and_so_is_the_penaltys(sizes):
    net = critic(sizes)
    x, real, fake, mix = rows(7, 3), rows(7, 3, seed=1), rows(7, 3, seed=2), torch.rand(7, 1, generator=generator(3))
    assert torch.allclose(input_gradient(net, x).expand(7, 3), input_gradient(Opaque(net), x), atol=1e-6)
    found = [torch.autograd.grad(gradient_penalty(c, real, fake, mix), [layer.weight for layer in net.layers])
             for c in (net, Opaque(net))]
    for ours, theirs in zip(*found):
        assert torch.allclose(ours, theirs, atol=1e-5) and theirs.abs().max() > 1e-3


def test_penalty_of_a_linear_critic_is_known():
    net = critic((2, 1))
    net.layers[0].weight.data.copy_(torch.tensor([[3.0, 4.0]]))
    real, fake, mix = rows(5, 2), rows(5, 2, seed=1), torch.rand(5, 1, generator=generator())
    for c in (net, Opaque(net)):
        assert gradient_penalty(c, real, fake, mix).item() == pytest.approx(16, rel=1e-6)  # (5 - 1)^2


def test_penalty_looks_between_the_rows_and_by_weight():
    """|grad f| is 2 right of zero and 0 left of it, for f(x) = 2 max(x, 0)."""
    net = critic((1, 1, 1))
    for parameter, value in zip(net.parameters(), (1.0, 0.0, 2.0, 0.0)):
        parameter.data.fill_(value)
    real, fake = torch.tensor([[4.0], [4.0]]), torch.tensor([[-4.0], [-4.0]])
    mix, weights = torch.tensor([[0.75], [0.25]]), torch.tensor([0.9, 0.1])
    at = gradient_penalty(net, real[:1], fake[:1], mix[:1]), gradient_penalty(net, real[1:], fake[1:], mix[1:])
    assert [v.item() for v in at] == pytest.approx([1, 1])  # (2 - 1)^2 at x = 2, (0 - 1)^2 at x = -2
    net.layers[1].weight.data.fill_(4.0)
    assert gradient_penalty(net, real, fake, mix, weights).item() == pytest.approx(0.9 * 9 + 0.1)


@pytest.mark.parametrize("wrap", [lambda net: net, Opaque])
def test_zero_gradient_gives_no_nan(wrap):
    net = critic()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
        net.layers[0].bias.fill_(-1.0)  # every unit is dead, whatever the weights
    penalty = gradient_penalty(wrap(net), rows(4, 3), rows(4, 3, seed=1), torch.rand(4, 1))
    assert penalty.item() == 1
    penalty.backward()
    for layer in net.layers:
        assert torch.equal(layer.weight.grad, torch.zeros_like(layer.weight))


def test_replicas_have_a_loss_each():
    many = ReplicaMLP((3, 16, 8, 1), [generator(s) for s in (0, 1)])
    solo = [MLP((3, 16, 8, 1), generator(s)) for s in (0, 1)]
    real, fake, mix = rows(2, 7, 3), rows(2, 7, 3, seed=1), torch.rand(2, 7, 1, generator=generator(2))
    weights = torch.softmax(rows(2, 7, seed=3), 1)

    def loss(net, *r):
        return 10 * gradient_penalty(net, real[r], fake[r], mix[r], weights[r]) - wasserstein(
            scores(net, real[r]), scores(net, fake[r]), weights[r])

    both = loss(many)
    both.sum().backward()
    for r, net in enumerate(solo):
        alone = loss(net, r)
        alone.backward()
        assert both[r].item() == pytest.approx(alone.item(), rel=1e-5)
        for layer, layers in zip(net.layers, many.layers):
            assert torch.allclose(layers.weight.grad[r], layer.weight.grad, rtol=1e-4, atol=1e-5)


def test_clipping():
    net = critic()
    before = [p.detach().clone() for p in net.parameters()]
    clip_weights(net.parameters(), 0.01)
    for parameter, was in zip(net.parameters(), before):
        np.testing.assert_array_equal(parameter.detach(), was.clamp(-0.01, 0.01))
    with pytest.raises(ValueError, match="bound=0"):
        clip_weights(net.parameters(), 0)
