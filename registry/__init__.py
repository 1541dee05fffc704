"""What is remembered (projects, snapshots, models, every deployment) and which model is live."""
