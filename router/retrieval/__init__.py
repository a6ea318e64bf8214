"""Routing over retrievers: how much each counts, and which corpora are searched, for each query."""
