"""The exposure log: every answer that went out, as it went out, in files; written aside, so that no answer waits for it."""
