"""Measurements that the documents quote: each is a command that prints a table."""
