"""From trained folds to what others can run: a checked submission, a container."""
