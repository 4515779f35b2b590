"""What is learned and what learning leaves behind. Importing this package imports no torch."""
