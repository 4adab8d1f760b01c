"""A runtime at one moment, as data; and how it is drawn: as a table, as a graph, as metrics."""
