"""Made-up pixels for a network, its depth computed plainly, and how near another comes."""
import made_up
import torch
from torch.nn import functional as F

KINDS = {'two heads': {}, 'bounded': {'heads': ('outdoor',), 'bounded': True},
         'one head': {'heads': ('indoor',)}}


def pixels_of(size, count=1):
    """Return smooth made-up pixels (count, 3, H, W) in [-1, 1]."""
    coarse = made_up.tensor_for(f'network {size}', (count, 3, 5, 7))
    return F.interpolate(coarse, size, mode='bicubic').clamp(-1, 1)


def plain_depth(model, pixels):
    """
    Compute depth as written: ready for gradients, so without products or tiles of ours.

    Linear layers by torch, its own attention, all bins of all pixels at once.
    """
    shared = model.forward_features(pixels)
    heads = model.choose(shared.logits, len(pixels))
    assert torch.is_grad_enabled()
    means = [model.metric(head, shared.features, shared.embeddings).mean()[i]
             for i, head in enumerate(heads)]
    return torch.stack(means).detach(), heads


def assert_close(depth, expected, tolerance=1e-4):
    """Compare as test_golden does: as a whole, and nearly all pixels each on its own."""
    assert depth.shape == expected.shape
    assert (depth - expected).norm() < tolerance * expected.norm()
    assert ((depth - expected).abs() > tolerance * expected).float().mean() < 0.005


def choose_by(model, count=1):
    """Return what picks the most probable heads from logits on the host."""
    return lambda logits: model.choose(
        None if logits is None else torch.from_numpy(logits), count)
