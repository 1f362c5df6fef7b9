"""A whole cluster on one machine: local processes with faults on demand."""
