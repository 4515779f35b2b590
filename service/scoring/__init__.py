"""Rows in, scores out: loaded models, the batcher, the ONNX Runtime scorer."""
