"""Segmentation architectures from papers as nnU-Net v2 trainers."""
