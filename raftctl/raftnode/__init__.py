"""Raft on this machine: the disk, the network and the clock around the pure core in `consensus`."""
