"""Other servers with the same model and features, each as its own documentation would have it, to compare ours with."""
