"""`python -m raftctl` is `raftctl`."""

from raftctl.cli.main import main

main()
