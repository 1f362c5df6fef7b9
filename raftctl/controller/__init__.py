"""The daemon on every host: keeps its own mysqld as the log says, and decides for all while it leads."""
