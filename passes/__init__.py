"""passes."""

if __name__ != "vitgraph.passes":
    raise ImportError(f"import vitgraph.passes, not {__name__}")
