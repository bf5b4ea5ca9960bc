"""The ZoeDepth of transformers with the weights of ours, to be compared with."""
from __future__ import annotations

from importlib import import_module
from tempfile import TemporaryDirectory
from typing import Any

from safetensors.torch import save_file
import torch

from zoe_ros.model.config import BackboneConfig
from zoe_ros.model.layouts import HUGGING_FACE
from zoe_ros.model.zoedepth import ZoeDepth


def transformers_model(model: ZoeDepth, dtype: torch.dtype) -> Any:
    """
    Return the ZoeDepth of transformers with the weights of ours, by a file in its own layout.

    :raises ValueError: transformers is not installed, or cannot read the file.
    """
    try:
        transformers: Any = import_module('transformers')
    except ImportError:
        raise ValueError('transformers is not installed: pip install transformers') from None
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    config = model.config
    metric, backbone = config.metric, config.backbone
    if not isinstance(backbone, BackboneConfig) or backbone.kind != 'beit':
        name = backbone.kind if isinstance(backbone, BackboneConfig) else backbone.name
        raise ValueError(f'transformers has no ZoeDepth over {name}')
    beit = transformers.BeitConfig(
        hidden_size=backbone.embed_dim, num_hidden_layers=backbone.depth,
        num_attention_heads=backbone.heads, intermediate_size=4 * backbone.embed_dim,
        image_size=backbone.patch * backbone.table_grid, patch_size=backbone.patch,
        use_relative_position_bias=True, reshape_hidden_states=False,
        out_features=[f'stage{tap + 1}' for tap in backbone.taps], layer_norm_eps=1e-6)
    router: dict[str, Any] = {} if config.router is None else {
        'num_patch_transformer_layers': config.router.layers,
        'patch_transformer_hidden_size': config.router.dim,
        'patch_transformer_intermediate_size': config.router.feedforward,
        'patch_transformer_num_attention_heads': config.router.heads}
    names = {'indoor': 'nyu', 'outdoor': 'kitti'}
    description = transformers.ZoeDepthConfig(
        backbone_config=beit, neck_hidden_sizes=list(backbone.channels),
        fusion_hidden_size=config.decoder.features, bottleneck_features=config.decoder.features,
        num_relative_features=config.decoder.relative_channels,
        num_attractors=list(metric.heads[0].attractors), bin_embedding_dim=metric.embedding_dim,
        bin_centers_type='normed' if metric.bounded else 'softplus',
        bin_configurations=[{'name': names[head.name], 'n_bins': metric.bins,
                             'min_depth': head.depth_range[0], 'max_depth': head.depth_range[1]}
                            for head in metric.heads], **router)
    state: dict[str, torch.Tensor] = {}
    for name, tensor in model.state_dict().items():
        sources = HUGGING_FACE.sources(name, len(metric.heads))
        parts = tensor.chunk(len(sources)) if len(sources) > 1 else [tensor]
        state.update({source: part.clone() for source, part in zip(sources, parts)})
    with TemporaryDirectory() as folder:
        save_file(state, f'{folder}/model.safetensors', {'format': 'pt'})
        theirs, report = transformers.ZoeDepthForDepthEstimation.from_pretrained(
            folder, config=description, dtype=dtype, output_loading_info=True)
    wrong = sorted(name for key in ('missing_keys', 'unexpected_keys', 'mismatched_keys')
                   for name in map(str, report[key]) if 'residual_layer1' not in name)
    if wrong:
        raise ValueError(f'transformers {transformers.__version__} does not take {wrong[:3]}')
    return theirs.eval().to(next(model.parameters()).device)
