"""Plans: what a network gets of patch, batch and width."""
