"""The nnU-Net trainers, one module a paper."""
