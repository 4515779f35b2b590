"""``make bench``: how many candidates a second one core ranks through HTTP, beside bare ONNX Runtime on the same graphs."""
