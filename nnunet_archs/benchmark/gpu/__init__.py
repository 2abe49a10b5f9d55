"""What only a GPU can tell, measured in one run: memory, times, fusions, tests, DDP, a training."""
