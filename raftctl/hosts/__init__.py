"""How a host is reached and changed."""
