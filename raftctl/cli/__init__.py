"""The command line: one command a file, thin; everything on the terminal goes through `render`."""
