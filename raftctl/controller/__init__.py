"""The daemon on every host: Raft's shell (write-ahead log, peer transport, driver) and what stands on it."""
