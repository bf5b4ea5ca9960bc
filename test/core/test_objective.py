"""From a batch to a loss: whose head learns, and what the loss is the sum of."""
from dataclasses import replace

import made_up
import pytest
from scenes import Planes, SIZE
import torch

from zoe_ros.training.batches import Batches
from zoe_ros.training.objective import Objective


def batch_of(*domains):
    """Return a batch with images of these domains."""
    return Batches([Planes(domain, 4) for domain in domains], SIZE, 2, seed=0, mixed=True)[0]


@pytest.mark.parametrize('routing', ['trained', 'labeled'])
@pytest.mark.parametrize('domain, other', [('indoor', 'outdoor'), ('outdoor', 'indoor')])
def test_an_image_teaches_the_head_of_its_domain(routing, domain, other):
    model = made_up.tiny_model().requires_grad_(True)
    Objective(model, 'metric', routing, 0.1, 'fp32')(batch_of(domain))['loss'].backward()
    gradients = {name: sum(float(p.grad.abs().sum()) for p in head.parameters()
                           if p.grad is not None)
                 for name, head in model.metric.heads.items()}
    assert gradients[domain] > 0 == gradients[other]


def test_the_loss_of_the_router_has_its_weight():
    batch = batch_of('indoor', 'outdoor')
    for weight in (0.0, 0.25):
        parts = Objective(made_up.tiny_model(), 'metric', 'trained', weight, 'fp32')(batch)
        assert float(parts['routing']) > 0.1
        assert float(parts['loss']) == pytest.approx(
            float(parts['silog'] + weight * parts['routing']))
    alone = Objective(made_up.tiny_model(), 'metric', 'labeled', 0.25, 'fp32')(batch)
    assert float(alone['loss']) == float(alone['silog'])


def test_the_router_learns_the_probabilities_of_a_teacher():
    batch = batch_of('indoor', 'outdoor')
    model = made_up.tiny_model()
    objective = Objective(model, 'metric', 'trained', 1.0, 'fp32')
    logits = model.forward_features(batch.pixels).logits.log_softmax(dim=1)
    soft = replace(batch, head_probabilities=[{'indoor': 0.3, 'outdoor': 0.7}, None])
    expected = -(0.3 * logits[0, 0] + 0.7 * logits[0, 1] + logits[1, 1]) / 2
    torch.testing.assert_close(objective(soft)['routing'], expected)
    hard = objective(batch)['routing']
    torch.testing.assert_close(hard, -(logits[0, 0] + logits[1, 1]) / 2)


def test_labels_have_a_loss_of_their_own():
    batch = batch_of('indoor')
    made = [Objective(made_up.tiny_model(), 'metric', 'labeled', 0.0, 'fp32', distilled=chosen)(
        batch) for chosen in (False, True)]
    assert 'absolute' not in made[0] and float(made[0]['loss']) == float(made[0]['silog'])
    # SILog leaves out the worst tenth of the pixels, too.
    assert 0 < float(made[1]['silog']) < float(made[0]['silog'])
    assert float(made[1]['loss']) == pytest.approx(float(
        made[1]['silog'] + 5 * made[1]['absolute'] + made[1]['edges']))
    nothing = replace(batch, depths=[torch.full_like(d, torch.nan) for d in batch.depths])
    model = made_up.tiny_model().requires_grad_(True)
    loss = Objective(model, 'metric', 'labeled', 0.0, 'fp32', distilled=True)(nothing)['loss']
    loss.backward()
    assert loss.item() == 0
