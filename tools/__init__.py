"""tools."""

if __name__ != "vitgraph.tools":
    raise ImportError(f"import vitgraph.tools, not {__name__}")
