"""From other layouts of images to nnU-Net's raw data sets."""
