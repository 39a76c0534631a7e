"""Optimization under equality constraints."""
