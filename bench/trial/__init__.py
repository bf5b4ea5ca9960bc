"""The trial on a CUDA device: steps in processes of their own, facts as they come."""
