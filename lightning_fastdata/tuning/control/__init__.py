"""Keeping a plan right while training runs: from what windows showed to the next number."""
