"""The online path: bytes in, ranking out. Imports nothing that trains."""
