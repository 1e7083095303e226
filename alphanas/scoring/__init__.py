"""What a candidate is worth: its cost, a score without training, and trained accuracy, from cheap to costly."""
