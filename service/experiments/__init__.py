"""MD5 bucketing, the experiment plan and the assignment of units to arms."""
