"""Class distributions and data sets, as NumPy arrays."""
