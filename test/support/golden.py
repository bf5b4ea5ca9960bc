"""Our values under the names of the fields of a golden file, and a full-size model at a time."""
import torch

from zoe_ros import DepthEstimator
from zoe_ros.inference.preprocess import plan_sizes, to_pixels
from zoe_ros.model.config import VARIANTS
from zoe_ros.model.weights import load_model

INFERENCES = {'infer_plain': (False, False), 'infer_pad': (True, False),
              'infer_pad_flip': (True, True)}
STAGES = ('out_conv', 'l4_rn', 'r4', 'r3', 'r2', 'r1')


def models(official):
    """Return a function: variant -> its full-size model; one of them in memory at a time."""
    held = {}

    def get(variant):
        if variant not in held:
            held.clear()
            held[variant] = load_model(VARIANTS[variant], official(variant))
        return held[variant]

    return get


@torch.inference_mode()
def network_fields(model, golden, correction=1):
    """
    Compute the fields at network resolution.

    :param correction: of the standard deviations; 0 for those of all values (population).
    """
    image = golden['image']
    plan = plan_sizes(image.shape[:2], model.config.image_size, 'keep', pad=False,
                      multiple=model.config.backbone.size_multiple)
    shared = model.forward_features(to_pixels(torch.from_numpy(image)[None], plan))
    head = model.choose(shared.logits, 1)[0]
    bins = model.metric(head, shared.features, shared.embeddings)
    rows, columns = golden['sample_rows'], golden['sample_cols']
    ours = {
        'net_input_hw': torch.tensor(plan.net),
        'relative_depth': shared.features.relative[0, 0, ::4, ::4],
        'metric_depth_net': model.predict_depth(shared, [head])[0][0, ::2, ::2],
        'bin_centers': bins.centers[0][:, rows][:, :, columns],
        'bin_probabilities': bins.probabilities[0][:, rows][:, :, columns]}
    if shared.logits is not None:
        ours['domain_logits'] = shared.logits[0]
    features = shared.features
    for stage, x in zip(STAGES, (features.fine, features.bottleneck, *features.pyramid)):
        ours[f'feature_{stage}_channel_mean'] = x[0].mean(dim=(1, 2))
        ours[f'feature_{stage}_channel_std'] = x[0].std(dim=(1, 2), correction=correction)
    return {name: tensor.numpy() for name, tensor in ours.items()}


def inferences(model, image):
    """Predict by the public estimator, in the three ways of the official inference."""
    depths = {
        name: DepthEstimator(model, aspect='keep', pad=pad, flip=flip).predict(image).depth
        for name, (pad, flip) in INFERENCES.items()}
    return {name: depth if name == 'infer_pad_flip' else depth[::2, ::2]
            for name, depth in depths.items()}
