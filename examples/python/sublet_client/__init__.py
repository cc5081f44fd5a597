"""A client for the Sublet broker."""
