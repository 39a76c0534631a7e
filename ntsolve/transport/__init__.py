"""Optimal transport with entropic regularisation."""
