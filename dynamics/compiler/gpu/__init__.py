"""Whole programs in one kernel of a GPU, by Pallas."""
