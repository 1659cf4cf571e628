"""From a dataset and a plan to host batches: the loader, its engines, their random numbers."""
