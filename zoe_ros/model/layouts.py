"""
The names of our tensors in published checkpoints. No other module knows foreign names.

A layout gives the name(s) in the file for each of our parameters (several tensors are concatenated
along the first axis), and the tensors of the file that are not used.
"""
from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
import re

DOMAIN_NAMES = {'indoor': 'nyu', 'outdoor': 'kitti'}


@dataclass(frozen=True)
class Layout:
    """
    The tensor names of one publisher of ZoeDepth.

    :param mark: prefix of names that only this layout has, after those that are tried before.
    :param sources: (our name, number of heads) -> names in the file, or an empty list.
    :param unused: matches the tensors of the file that no computation uses.
    :param first_attractor_bias: the tensor whose length tells N (16) from K (32).
    :param router_mark: prefix of the names that only NK has.
    :param no_heads: what the file is, if it has no metric heads.
    """

    title: str
    mark: str
    sources: Callable[[str, int], list[str]]
    unused: re.Pattern[str]
    first_attractor_bias: str = ''
    router_mark: str = ''
    no_heads: str = ''


def _official(name: str, heads: int) -> list[str]:
    encoder, scratch = 'core.core.pretrained.model', 'core.core.scratch'
    return _translate(name, heads, (
        *_encoder_rules(encoder),
        (r'backbone\.position_tables\.(\d+)',
         encoder + r'.blocks.\1.attn.relative_position_bias_table'),
        (r'backbone\.reassemble\.(\d)\.readout\.(.+)',
         r'core.core.pretrained.act_postprocess{1+\1}.0.project.0.\2'),
        (r'backbone\.reassemble\.(\d)\.project\.(.+)',
         r'core.core.pretrained.act_postprocess{1+\1}.3.\2'),
        (r'backbone\.reassemble\.(\d)\.resize\.(.+)',
         r'core.core.pretrained.act_postprocess{1+\1}.4.\2'),
        (r'decoder\.relative\.conv1\.(.+)', scratch + r'.output_conv.0.\1'),
        (r'decoder\.relative\.conv2\.(.+)', scratch + r'.output_conv.2.\1'),
        (r'decoder\.relative\.conv3\.(.+)', scratch + r'.output_conv.4.\1'),
        *_fusion_rules(scratch), *_head_rules(heads)))


def _depth_anything(name: str, heads: int) -> list[str]:
    encoder, decoder = 'core.core.pretrained', 'core.core.depth_head'
    scratch = f'{decoder}.scratch'
    return _translate(name, heads, (
        (r'backbone\.positions', f'{encoder}.pos_embed'),
        (r'backbone\.norm\.(.+)', encoder + r'.norm.\1'),
        (r'backbone\.blocks\.(\d+)\.gamma_(\d)', encoder + r'.blocks.\1.ls\2.gamma'),
        *_encoder_rules(encoder),
        (r'backbone\.reassemble\.(\d)\.project\.(.+)', decoder + r'.projects.\1.\2'),
        (r'backbone\.reassemble\.(\d)\.resize\.(.+)', decoder + r'.resize_layers.\1.\2'),
        (r'decoder\.relative\.conv1\.(.+)', scratch + r'.output_conv1.\1'),
        (r'decoder\.relative\.conv2\.(.+)', scratch + r'.output_conv2.0.\1'),
        (r'decoder\.relative\.conv3\.(.+)', scratch + r'.output_conv2.2.\1'),
        *_fusion_rules(scratch), *_head_rules(heads)))


Rules = tuple[tuple[str, str], ...]


def _encoder_rules(encoder: str) -> Rules:
    """Return the rules of what BEiT and DINOv2 have in common."""
    return ((r'backbone\.cls_token', f'{encoder}.cls_token'),
            (r'backbone\.patch_embed\.(.+)', encoder + r'.patch_embed.proj.\1'),
            (r'backbone\.blocks\.(.+)', encoder + r'.blocks.\1'))


def _fusion_rules(scratch: str) -> Rules:
    return (
        (r'decoder\.project\.(\d)\.(.+)', scratch + r'.layer{1+\1}_rn.\2'),
        (r'decoder\.fusion\.(\d)\.skip_unit\.(.+)', scratch + r'.refinenet{1+\1}.resConfUnit1.\2'),
        (r'decoder\.fusion\.(\d)\.out_unit\.(.+)', scratch + r'.refinenet{1+\1}.resConfUnit2.\2'),
        (r'decoder\.fusion\.(\d)\.out_conv\.(.+)', scratch + r'.refinenet{1+\1}.out_conv.\2'))


def _head_rules(heads: int) -> Rules:
    """Return the rules of metric heads and router."""
    per_head = 's.{head}' if heads > 1 else ''
    dot_head = '.{head}' if heads > 1 else ''
    return (
        (r'metric\.bottleneck\.(.+)', r'conv2.\1'),
        (r'metric\.seed_embedding\.(.+)', r'seed_projector._net.\1'),
        (r'metric\.embeddings\.(\d)\.(.+)', r'projectors.\1._net.\2'),
        (r'metric\.heads\.(\w+)\.seed_bins\.(.+)', rf'seed_bin_regressor{per_head}._net.\2'),
        (r'metric\.heads\.(\w+)\.attractors\.(\d)\.(.+)', rf'attractors{dot_head}.\2._net.\3'),
        (r'metric\.heads\.(\w+)\.log_binomial\.(.+)', rf'conditional_log_binomial{dot_head}.\2'),
        (r'router\.embed\.(.+)', r'patch_transformer.embedding_convPxP.\1'),
        (r'router\.encoder\.(.+)', r'patch_transformer.transformer_encoder.\1'),
        (r'router\.classifier\.(.+)', r'mlp_classifier.\1'))


def _hugging_face(name: str, heads: int) -> list[str]:
    block = r'backbone.encoder.layer.\1'
    per_head = 's.{head}' if heads > 1 else ''
    dot_head = '.{head}' if heads > 1 else ''
    layer = r'metric_head.patch_transformer.transformer_encoder.\1'
    return _translate(name, heads, (
        (r'backbone\.cls_token', 'backbone.embeddings.cls_token'),
        (r'backbone\.patch_embed\.(.+)', r'backbone.embeddings.patch_embeddings.projection.\1'),
        (r'backbone\.blocks\.(\d+)\.attn\.qkv\.weight',
         block + '.attention.attention.{query|key|value}.weight'),
        (r'backbone\.blocks\.(\d+)\.attn\.q_bias', block + '.attention.attention.query.bias'),
        (r'backbone\.blocks\.(\d+)\.attn\.v_bias', block + '.attention.attention.value.bias'),
        (r'backbone\.blocks\.(\d+)\.attn\.proj\.(.+)', block + r'.attention.output.dense.\2'),
        (r'backbone\.blocks\.(\d+)\.norm1\.(.+)', block + r'.layernorm_before.\2'),
        (r'backbone\.blocks\.(\d+)\.norm2\.(.+)', block + r'.layernorm_after.\2'),
        (r'backbone\.blocks\.(\d+)\.mlp\.fc1\.(.+)', block + r'.intermediate.dense.\2'),
        (r'backbone\.blocks\.(\d+)\.mlp\.fc2\.(.+)', block + r'.output.dense.\2'),
        (r'backbone\.blocks\.(\d+)\.gamma_(\d)', block + r'.lambda_\2'),
        (r'backbone\.position_tables\.(\d+)',
         block + '.attention.attention.relative_position_bias.relative_position_bias_table'),
        (r'backbone\.reassemble\.(\d)\.readout\.(.+)',
         r'neck.reassemble_stage.readout_projects.\1.0.\2'),
        (r'backbone\.reassemble\.(\d)\.project\.(.+)',
         r'neck.reassemble_stage.layers.\1.projection.\2'),
        (r'backbone\.reassemble\.(\d)\.resize\.(.+)',
         r'neck.reassemble_stage.layers.\1.resize.\2'),
        (r'decoder\.project\.(\d)\.(.+)', r'neck.convs.\1.\2'),
        (r'decoder\.fusion\.(\d)\.skip_unit\.conv(\d)\.(.+)',
         r'neck.fusion_stage.layers.{3-\1}.residual_layer1.convolution\2.\3'),
        (r'decoder\.fusion\.(\d)\.out_unit\.conv(\d)\.(.+)',
         r'neck.fusion_stage.layers.{3-\1}.residual_layer2.convolution\2.\3'),
        (r'decoder\.fusion\.(\d)\.out_conv\.(.+)',
         r'neck.fusion_stage.layers.{3-\1}.projection.\2'),
        (r'decoder\.relative\.(.+)', r'relative_head.\1'),
        (r'metric\.bottleneck\.(.+)', r'metric_head.conv2.\1'),
        (r'metric\.seed_embedding\.(\d)\.(.+)', r'metric_head.seed_projector.conv{1+\1/2}.\2'),
        (r'metric\.embeddings\.(\d)\.(\d)\.(.+)', r'metric_head.projectors.\1.conv{1+\2/2}.\3'),
        (r'metric\.heads\.(\w+)\.seed_bins\.(\d)\.(.+)',
         rf'metric_head.seed_bin_regressor{per_head}.conv{{1+\2/2}}.\3'),
        (r'metric\.heads\.(\w+)\.attractors\.(\d)\.(\d)\.(.+)',
         rf'metric_head.attractors{dot_head}.\2.conv{{1+\3/2}}.\4'),
        (r'metric\.heads\.(\w+)\.log_binomial\.(.+)',
         rf'metric_head.conditional_log_binomial{dot_head}.\2'),
        (r'router\.embed\.(.+)', r'metric_head.patch_transformer.embedding_convPxP.\1'),
        (r'router\.encoder\.layers\.(\d+)\.self_attn\.in_proj_(.+)',
         layer + r'.self_attn.{query|key|value}.\2'),
        (r'router\.encoder\.layers\.(\d+)\.(.+)', layer + r'.\2'),
        (r'router\.classifier\.(\d)\.(.+)', r'metric_head.mlp_classifier.linear{1+\1/2}.\2'),
    ))


def _translate(name: str, heads: int, table: Iterable[tuple[str, str]]) -> list[str]:
    """
    Rewrite ``name`` by the first rule that matches the whole name.

    Besides back-references a rule may hold {a|b}: one source for each word; {1+2}, {3-1}, {1+2/2}:
    a number to compute; {head}: the publisher's word for the domain of the head.
    """
    for pattern, template in table:
        match = re.fullmatch(pattern, name)
        if match:
            if '{head}' in template:
                template = template.replace('{head}', DOMAIN_NAMES[match.group(1)])
            text = match.expand(template)
            text = re.sub(r'\{(\d)([+-])(\d)(?:/(\d))?\}', _compute, text)
            choice = re.search(r'\{(\w+(?:\|\w+)+)\}', text)
            if choice is None:
                return [text]
            return [text.replace(choice.group(), word) for word in choice.group(1).split('|')]
    return []


def _compute(match: re.Match[str]) -> str:
    first, sign, second, divisor = match.groups()
    value = int(second) // int(divisor or 1)
    return str(int(first) + (value if sign == '+' else -value))


OFFICIAL = Layout(
    title='official ZoeDepth',
    mark='core.core.pretrained.',
    sources=_official,
    # Tensors in the file that no computation uses (section 5): the classifier of BEiT, the first
    # unit of the coarsest fusion block, index buffers of timm before 0.9.6, and constants of the
    # log-binomial.
    unused=re.compile(
        r'.*\.relative_position_index|core\.core\.pretrained\.model\.(head|fc_norm)\..*'
        r'|core\.core\.scratch\.refinenet4\.resConfUnit1\..*|.*\.(k_idx|K_minus_1)'),
    first_attractor_bias='attractors.0._net.2.bias',
    router_mark='patch_transformer.')

HUGGING_FACE = Layout(
    title='Hugging Face ZoeDepth',
    mark='metric_head.',
    sources=_hugging_face,
    unused=re.compile(
        r'.*\.relative_position_index|neck\.fusion_stage\.layers\.0\.residual_layer1\..*'
        r'|.*\.(k_idx|k_minus_1)'),
    first_attractor_bias='metric_head.attractors.0.conv2.bias',
    router_mark='metric_head.patch_transformer.')

DEPTH_ANYTHING = Layout(
    title='Depth Anything', mark='core.core.depth_head.', sources=_depth_anything,
    # The token of masked patches in the training of DINOv2, the unit of the coarsest fusion block
    # and the constants as in ZoeDepth.
    unused=re.compile(
        r'core\.core\.pretrained\.mask_token|.*\.(k_idx|K_minus_1)'
        r'|core\.core\.depth_head\.scratch\.refinenet4\.resConfUnit1\..*'))

_CORE = 'core.core.'


def _without_heads(layout: Layout, mark: str, no_heads: str) -> Layout:
    """Return the layout of a relative model, with encoder and decoder alone, before training."""
    return Layout(
        title=no_heads, mark=mark, unused=re.compile('.*'), no_heads=no_heads,
        sources=lambda name, heads: [source.removeprefix(_CORE)
                                     for source in layout.sources(name, heads)
                                     if source.startswith(_CORE)])


# The relative models from which the released models were trained.
MIDAS = _without_heads(OFFICIAL, 'pretrained.model.', 'the relative model of MiDaS')
# Both versions have the same names, and so have the metric models of version 2.
RELATIVE_DEPTH_ANYTHING = _without_heads(
    DEPTH_ANYTHING, 'depth_head.', 'a relative model of Depth Anything, or one of its version 2')

NATIVE = Layout(
    title='zoe_ros', mark='', sources=lambda name, heads: [name], unused=re.compile('$^'))

# Marks of networks that are not a ZoeDepth, but are easily taken for one.
_OTHERS = (
    (re.compile(r'(model\.)?((da3|da3_metric)\.)?backbone\.pretrained\.'), 'Depth Anything 3'),
    (re.compile(r'backbone\.encoder\.layer\.\d+\.layer_scale1\.'),
     'Depth Anything in the layout of transformers'))


def detect(names: Collection[str]) -> Layout:
    """
    Return the layout of a file with these names of tensors.

    :raises ValueError: the file is none of those that are known; the text says why.
    """
    # ZoeDepth's marks are also prefixes of names of Depth Anything.
    for layout in (DEPTH_ANYTHING, RELATIVE_DEPTH_ANYTHING, OFFICIAL, HUGGING_FACE, MIDAS):
        if any(name.startswith(layout.mark) for name in names):
            return layout
    for mark, what in _OTHERS:
        if any(mark.match(name) for name in names):
            raise ValueError(f'holds {what}, which has no metric bins: use the files '
                             'depth_anything_metric_depth_*.pt of version 1')
    first = ', '.join(sorted(names)[:3])
    raise ValueError(f'holds no ZoeDepth (it starts with {first}): use the released '
                     'ZoeD_M12_*.pt or the model.safetensors of Intel/zoedepth-*')
