"""The network: pixels in [-1, 1] to metric depth [m] at network resolution. Pure torch."""
