"""What the stage diagnose measures: a module for each question, with `measure(subject)`."""
