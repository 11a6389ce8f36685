"""Sweeps: one training for each combination of rank, learning rate, base, data ratio and so on."""
