"""The only door to MySQL: one client with a deadline on every call, and small functions on top of it."""
