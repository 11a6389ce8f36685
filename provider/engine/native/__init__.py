"""Kernels in C for what torch leaves slow on a CPU; optional, compiled on the spot."""
