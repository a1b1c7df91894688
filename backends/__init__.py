"""backends."""

if __name__ != "vitgraph.backends":
    raise ImportError(f"import vitgraph.backends, not {__name__}")
