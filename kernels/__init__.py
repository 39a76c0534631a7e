"""The kernels of ntsolve: what each means (`contracts`), its Numba twin (`cpu`) and its CUDA twin (`cuda`).

Importing this package loads nothing; a backend loads when the first array of its kind arrives.
"""
