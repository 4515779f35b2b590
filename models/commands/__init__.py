"""One module a subcommand of ``python -m models``: ``add_arguments(parser)`` and ``run(args) -> exit code``."""
