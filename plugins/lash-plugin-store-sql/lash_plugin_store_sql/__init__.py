"""One SQL store for everything that lash keeps, embedded in SQLite."""
