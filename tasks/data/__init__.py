"""From a relation to frozen rows, and from predictions to an output."""
