"""One pure function for each cause of lost time."""
