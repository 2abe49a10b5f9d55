"""Levels of a trained network: what each is worth, and the network cut out."""
