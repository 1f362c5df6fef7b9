"""The words of the domain, pure: GTID sets, members, the cluster state, the log's commands and their application."""
