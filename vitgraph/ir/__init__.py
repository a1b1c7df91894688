"""Programs: the graph, its dialect and types, its text, its file, and what makes it valid."""
