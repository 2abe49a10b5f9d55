"""The demo: a phantom, the steps from raw images to predictions, their result."""
