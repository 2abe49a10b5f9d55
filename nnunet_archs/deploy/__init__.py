"""Trained models on their way out: the network in formats that others read, a checked submission, a container."""
