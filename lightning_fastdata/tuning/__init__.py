"""From facts to a plan: what a dataset costs, and how few workers can keep training fed."""
