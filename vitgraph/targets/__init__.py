"""What devices can do, as data."""
