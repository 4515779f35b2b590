"""The commands of ``python -m feature_store``: each module declares its arguments and runs."""
