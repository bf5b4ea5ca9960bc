"""
Compile, without a GPU, every kernel that a variant launches, for one compute capability.

``python compile_kernels.py nk 90`` prints a line of JSON for each. It runs in a process of its own
because Triton compiles nothing where its interpreter is on. The operators themselves say what they
launch: they run on small maps in the variant's widths, and their launches are compiled instead.
"""
import json
from pathlib import Path
import re
import subprocess
import sys
import tempfile

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from zoe_ros.model import fused, triton_kernels
from zoe_ros.model.config import VARIANTS
from zoe_ros.model.decoder import DptDecoder, Features
from zoe_ros.model.fused_decoder import FusedDecoder
from zoe_ros.model.fused_metric import FusedMetric
from zoe_ros.model.metric import MetricBins

TYPES = {torch.float32: '*fp32', torch.bfloat16: '*bf16', int: 'i32', float: 'fp32'}
CUOBJDUMP = Path(triton.__file__).parent / 'backends' / 'nvidia' / 'bin' / 'cuobjdump'


class Compiler:
    """Stands where the operators look for kernels; what they launch is compiled once."""

    def __init__(self, capability):
        """Compile for 80: an A100, 90: an H100, 120: a GeForce 5000."""
        self.target = GPUTarget('cuda', capability, 32)
        self.done = set()

    def __getattr__(self, name):
        """Return what can be launched as a kernel of that name."""
        return Launcher(self, name)


class Launcher:
    """A kernel; subscribed by a grid it is itself."""

    def __init__(self, compiler, name):
        """Compile the kernel of that name when it is called."""
        self.compiler, self.name = compiler, name

    def __getitem__(self, grid):
        """Take any grid."""
        return self

    def __call__(self, *arguments, **named):
        """Compile for the types of the arguments; print what the kernel needs."""
        kernel = getattr(triton_kernels, self.name)
        constants = {key: value for key, value in named.items() if key.isupper()}
        options = {key: value for key, value in named.items() if not key.isupper()}
        signature = {key: TYPES[getattr(value, 'dtype', type(value))]
                     for key, value in zip(kernel.arg_names, arguments)}
        key = self.name, *signature.values(), *constants.values()
        if key in self.compiler.done:
            return
        self.compiler.done.add(key)
        index = kernel.arg_names.index
        aligned = {(index(key),): [['tt.divisibility', 16]]
                   for key, kind in signature.items() if kind[0] == '*'}
        source = ASTSource(
            kernel, {**signature, **dict.fromkeys(constants, 'constexpr')}, constants, aligned)
        compiled = triton.compile(source, target=self.compiler.target, options=options)
        free = [p.name for p in kernel.params if signature.get(p.name) == 'i32'
                and not p.do_not_specialize]
        sys.stdout.write(json.dumps({
            'kernel': self.name, 'constants': constants, 'shared': compiled.metadata.shared,
            'specialised': free, **registers(compiled.asm['cubin'])}) + '\n')


def registers(cubin):
    """Return the registers of a thread, and its stack [bytes], where registers are spilt."""
    with tempfile.NamedTemporaryFile(suffix='.cubin') as file:
        Path(file.name).write_bytes(cubin)
        text = subprocess.run([CUOBJDUMP, '-res-usage', file.name], capture_output=True,
                              text=True, check=True).stdout
    found = re.search(r'REG:(\d+) STACK:(\d+)', text)
    return {'registers': int(found[1]), 'stack': int(found[2])}


@torch.inference_mode()
def run(config):
    """Run all that launches kernels, on maps of a few pixels."""
    half, width, fine = torch.bfloat16, config.decoder.features, config.decoder.relative_channels
    metric, relative = MetricBins(config.metric, width, fine), config.metric.relative_input
    bottleneck, *pyramid = (torch.zeros(1, width, 1 << i, 1 << i, dtype=half) for i in range(5))
    features = Features(bottleneck, tuple(pyramid), torch.zeros(1, fine, 32, 32, dtype=half),
                        torch.zeros(1, 1, 32, 32))
    for tf32 in (False, True):
        form = FusedMetric(metric, tf32)
        embeddings = form.embed(features, form.project(bottleneck))
        for deviation in (False, True):
            form.mean_and_deviation(config.head_names[0], features, embeddings, deviation)
    decoder = DptDecoder(
        config.backbone.channels, config.decoder, config.backbone.stride).to(half)
    FusedDecoder(decoder, relative).fuse(
        [torch.zeros(1, width, 8 >> i, 8 >> i, dtype=half) for i in range(4)])
    dim = getattr(config.backbone, 'embed_dim', 0)
    if dim:
        tokens, scale = torch.zeros(1, 2, dim), torch.zeros(dim)
        fused.add_norm(tokens, None, None, scale, scale, 1e-6, half, False)
        fused.add_norm(tokens, tokens.to(half), scale, scale, scale, 1e-6, half, True)
    if config.router is not None:
        tokens, scale = torch.zeros(1, 2, config.router.dim), torch.zeros(config.router.dim)
        fused.add_norm(tokens, tokens, None, scale, scale, 1e-5, torch.float32, False)


if __name__ == '__main__':
    fused.kernels = Compiler(int(sys.argv[2]))
    run(VARIANTS[sys.argv[1]])
