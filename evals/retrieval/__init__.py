"""`consilium eval retrieval`: routing over retrievers, measured on domains with judged queries."""
