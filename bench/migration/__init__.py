"""Four ways from 512 to 768 dimensions on a live table, under the same load, in one run."""
