"""The translator graph: the framework, and the client's translators."""

if __name__ == "graph":
    raise ImportError("import this package as fusemux.graph, not as graph")
