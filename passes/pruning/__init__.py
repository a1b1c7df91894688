"""Pruning of tiles and units, and their removal from the graph."""
