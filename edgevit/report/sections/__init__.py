"""What a report says, one section a file: each a function of the sources, and None where they tell nothing of it."""
