"""Black-box load over HTTP. Imports nothing of the packages it measures."""
