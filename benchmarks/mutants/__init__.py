"""Faults that are planted in the project, and whether its tests catch them."""
