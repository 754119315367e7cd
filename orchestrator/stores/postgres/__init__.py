"""The driver for PostgreSQL: the shared verbs, with those of each row written for many rows at a time."""
