"""One file per experiment; each names its command, hardware, time and expected result."""
