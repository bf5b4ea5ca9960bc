"""From a batch to a loss: whose head learns, and what the loss is the sum of."""
import made_up
import pytest
from scenes import Planes, SIZE

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
