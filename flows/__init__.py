"""What a person or a schedule starts: train, deploy, roll back."""
