"""The one module that nnU-Net searches for trainers."""
