"""PostgreSQL through psycopg 3: every wait of a connection goes through the loop."""
