"""The Ansible YAML inventory as a typed model; every error names the path to the fault."""
