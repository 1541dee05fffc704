"""The flows and the command line: what a person or a schedule starts."""
