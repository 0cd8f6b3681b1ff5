"""The SQL of a query, compiled once for all values."""
