"""One network a file. Plain torch: no device, optimizer, checkpoint or file."""
