"""From hosts with MySQL to a running cluster: checks, certificates, accounts, controllers, the first log entry."""
