"""The SQL of a query, made once for all values."""
