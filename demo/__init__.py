"""The whole line with one command, for a newcomer: it only runs the other packages' commands."""
