"""One scorer process for many front-ends: it owns the device and batches across all of them, over shared memory."""
