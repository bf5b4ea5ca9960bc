"""Slanted planes as a dataset: small, exact, made on the spot, and learnable."""
import numpy as np

from zoe_ros.camera import Camera
from zoe_ros.datasets import EvalProtocol, Sample

SIZE = (64, 96)


class Planes:
    """Indoor planes are near and grey, outdoor ones far and reddish; brightness tells depth."""

    def __init__(self, domain, count, seed=0):
        """Make ``count`` samples of a domain."""
        self.domain, self.count, self.seed = domain, count, seed
        self.name = f'planes-{domain}'
        self.protocol = EvalProtocol(1e-3, 80.0)

    def __len__(self):
        """Return the number of samples."""
        return self.count

    def __getitem__(self, index):
        """Return a sample."""
        if index >= self.count:
            raise IndexError(index)
        random = np.random.default_rng((self.seed, index, self.domain == 'indoor'))
        y, x = np.mgrid[:SIZE[0], :SIZE[1]]
        near = random.uniform(2, 6) + x * random.uniform(-0.02, 0.02) + y * 0.01
        shade = np.clip(near * 25 + random.normal(0, 4, SIZE), 0, 255).astype(np.uint8)
        image = np.stack([shade] * 3, axis=-1)
        depth = near.astype(np.float32)
        if self.domain == 'outdoor':
            image[..., 0] = 220
            depth = 5 * depth
        # Images count alike in the mean, however many pixels of them do.
        depth[:2 + 8 * (index % 3)] = np.nan
        camera = Camera(96, 64, 90.0, 90.0, 48.0, 32.0)
        return Sample(image, depth, camera, self.domain, f'{index:03}')
