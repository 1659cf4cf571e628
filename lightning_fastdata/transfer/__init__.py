"""From a host batch to the batch that the training step gets, on its device."""
