"""Trained models on their way out: what is in them, and the network alone in formats that others read."""
