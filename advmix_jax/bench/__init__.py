"""What the benchmark reports beside rates: where time goes, what cost grows with, starts, whole runs."""
