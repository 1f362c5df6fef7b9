"""raftctl: automatic failover for MySQL, decided through a Raft log."""

__version__ = "0.1.0"
