"""LinkNet for nnU-Net."""
