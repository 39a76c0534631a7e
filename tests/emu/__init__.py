"""CUDA on the CPU: an emulator for kernels, a stand-in for CuPy on top of it, and their tests."""
