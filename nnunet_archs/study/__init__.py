"""Studies: networks trained over folds, measured, compared and reported."""
