"""Raft as a pure state machine. Nothing in this package does I/O, reads a clock, logs or draws from a
global random source; time and randomness are passed in. `types` holds the vocabulary, `raft` the machine."""
