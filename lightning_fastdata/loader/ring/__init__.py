"""The ring engine: worker processes that write batches into shared memory, row by row, in place."""
