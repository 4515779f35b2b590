"""Raw feature values to network inputs: the one implementation for training and for serving."""
