"""Curvature: inverses of the empirical Fisher matrix and of Hessians given by their products."""
